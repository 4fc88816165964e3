"""Language models (Eq. 3, 7), by spec: ``hf:<hub id or folder>``, ``gguf:<file>``, ``smollm2``, ``openai:<model>``,
``garden``.

To add one: write a class with `sample` (see `kka.protocols.LanguageModel`), and a line in `LANGUAGE_MODELS`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kka.common.hub import require_model
from kka.common.members import build_member
from kka.errors import UserError, unknown
from kka.language.gguf import check_gguf, find_smollm2, is_gguf
from kka.protocols import LanguageModel
from kka.settings.language import LanguageSettings, refuse_of_servers


def _hf(argument: str, **options: Any) -> LanguageModel:
    if not argument:
        raise UserError("language model: expected hf:<hub id or folder>; got 'hf' without one")
    from kka.language.hf import HFLanguageModel

    model: LanguageModel = build_member(HFLanguageModel, "language model hf", options, argument)
    return model


def _gguf(argument: str, **options: Any) -> LanguageModel:
    if not is_gguf(argument):
        raise UserError(f"language model: expected gguf:<file that ends in .gguf>; got 'gguf:{argument}'")
    return _hf(argument, **options)


def _smollm2(argument: str, **options: Any) -> LanguageModel:
    if argument:
        raise UserError(f"language model: 'smollm2' takes no argument; got 'smollm2:{argument}'")
    return _hf(str(find_smollm2()), **options)


def _openai(argument: str, **options: Any) -> LanguageModel:
    if not argument:
        raise UserError("language model: expected openai:<model name>; got 'openai' without one")
    from kka.language.openai import OpenAILanguageModel

    model: LanguageModel = build_member(OpenAILanguageModel, "language model openai", options, argument)
    return model


GARDEN_LM = Path(__file__).parent.parent / "garden" / "lm"
"""The shipped model of the embedded world. Rebuilt by ``kka lm train --data garden --out src/kka/garden/lm``."""


def _garden(argument: str, **options: Any) -> LanguageModel:
    if argument:
        raise UserError(f"language model: 'garden' takes no argument; got 'garden:{argument}'")
    return _hf(str(GARDEN_LM), **options)


LANGUAGE_MODELS: dict[str, Callable[..., LanguageModel]] = {
    "hf": _hf, "gguf": _gguf, "smollm2": _smollm2, "openai": _openai, "garden": _garden,
}  # fmt: skip
"""Name -> builder, called with what follows the colon of the spec, and options."""


def check_language_model(spec: str, *, settings: LanguageSettings) -> None:
    """What is wrong with a spec or its settings shows here, before anything is loaded.

    Raises:
        UserError: as `build_language_model`; a model that cannot be had.
    """
    name, _, argument = spec.partition(":")
    if name not in LANGUAGE_MODELS:
        raise _unknown(spec)
    if name == "openai":  # nothing is loaded or asked
        _openai(argument, settings=settings)
    elif (name in ("garden", "smollm2") and argument) or (name == "hf" and not argument):
        LANGUAGE_MODELS[name](argument)  # which says what is expected
    else:
        check_local(settings)
    if name == "hf":
        require_model(argument, "config.json", what="language model", weights="*.safetensors")
    if name == "gguf" and is_gguf(argument):
        check_gguf(argument)
    elif name == "gguf":
        _gguf(argument)
    if name == "smollm2":
        check_gguf(str(find_smollm2()))


def check_local(settings: LanguageSettings) -> None:
    """Raises UserError for settings that a model on this machine cannot have."""
    refuse_of_servers(settings)
    if settings.max_new_tokens is None:
        raise UserError("language.max_new_tokens: expected a number, for a model that runs here; got none")
    if settings.load_in_4bit:
        from kka.common.device import choose_device
        from kka.language.loading import four_bits

        four_bits(choose_device("auto"))


def _unknown(spec: str) -> UserError:
    alone = ("garden", "smollm2")
    return unknown("language model", spec, [name if name in alone else f"{name}:…" for name in LANGUAGE_MODELS])


def build_language_model(spec: str, **options: Any) -> LanguageModel:
    """The language model that `spec` (`name` or `name:argument`) names.

    Args:
        options: Of its constructor: `settings` (`kka.settings.language.LanguageSettings`), `progress`, and more.

    Raises:
        UserError: unknown name, missing argument, or an option or setting that the model does not have.
    """
    name, _, argument = spec.partition(":")
    if name not in LANGUAGE_MODELS:
        raise _unknown(spec)
    return LANGUAGE_MODELS[name](argument, **options)
