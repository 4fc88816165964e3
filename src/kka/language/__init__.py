"""Language models (Eq. 3, 7), by spec: ``hf:<hub id or folder>``, ``gguf:<file>``, ``smollm2``, ``openai:<model>``,
``garden``, ``defects``.

To add one of kka's: write a class with `sample` (see `kka.protocols.LanguageModel`), and a line in `LANGUAGE_MODELS`.
A person's own has no line there: its spec is its path, package.module:Class (`kka.common.own`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kka.common.hub import require_model
from kka.common.members import build_member
from kka.common.own import HOW, Family, is_class_path
from kka.common.own_model import build_own, check_own
from kka.errors import UserError, unknown
from kka.language.gguf import check_gguf, find_smollm2, is_gguf
from kka.protocols import LanguageModel
from kka.settings import refuse_own
from kka.settings.language import LanguageSettings, refuse_of_servers

GARDEN_LM = Path(__file__).parent.parent / "garden" / "lm"
"""The shipped model of the embedded world. Rebuilt by ``kka lm train --data garden --out src/kka/garden/lm``."""
DEFECTS_LM = Path(__file__).parent.parent / "defects" / "lm"
"""The shipped model of defects. Rebuilt by ``kka lm train --data defects --out src/kka/defects/lm``."""
SHIPPED: dict[str, Callable[[], Path]] = {
    "smollm2": find_smollm2, "garden": lambda: GARDEN_LM, "defects": lambda: DEFECTS_LM,
}  # fmt: skip
"""Models that have a name alone -> where they lie."""
LOCAL = ("hf", "gguf", *SHIPPED)
"""Models that run here."""


def _source(name: str, argument: str) -> str:
    """What a model that runs here is loaded from: a hub id, a folder or a file.

    Raises:
        UserError: an argument that is missing, too much, or of another kind; a shipped model that is not installed.
    """
    if name in SHIPPED:
        if argument:
            raise UserError(f"language model: {name!r} takes no argument; got '{name}:{argument}'")
        return str(SHIPPED[name]())
    if name == "gguf" and not is_gguf(argument):
        raise UserError(f"language model: expected gguf:<file that ends in .gguf>; got 'gguf:{argument}'")
    if not argument:
        raise UserError("language model: expected hf:<hub id or folder>; got 'hf' without one")
    return argument


def _local(name: str) -> Callable[..., LanguageModel]:
    def build(argument: str, **options: Any) -> LanguageModel:
        source = _source(name, argument)
        from kka.language.hf import HFLanguageModel

        model: LanguageModel = build_member(HFLanguageModel, "language model hf", options, source)
        return model

    return build


def _defects(argument: str, **options: Any) -> LanguageModel:
    source = _source("defects", argument)
    from kka.language.defects import DefectsLanguageModel

    model: LanguageModel = build_member(DefectsLanguageModel, "language model defects", options, source)
    return model


def _openai(argument: str, **options: Any) -> LanguageModel:
    if not argument:
        raise UserError("language model: expected openai:<model name>; got 'openai' without one")
    from kka.language.openai import OpenAILanguageModel

    model: LanguageModel = build_member(OpenAILanguageModel, "language model openai", options, argument)
    return model


LANGUAGE_MODELS: dict[str, Callable[..., LanguageModel]] = {
    **{name: _local(name) for name in LOCAL}, "defects": _defects, "openai": _openai,
}  # fmt: skip
"""Name -> builder, called with what follows the colon of the spec, and options."""
OWN = Family(
    what="language model", members=[name if name in SHIPPED else f"{name}:…" for name in LANGUAGE_MODELS],
    needs=("sample",), example="examples/own_language_model.py",
)  # fmt: skip
"""What a class named by its path must have. One with `tune`, `save` and `restore` as well is tuned."""
OFFERED = ("worked", "progress")
"""Options that an own language model gets where its constructor takes them."""


def check_language_model(spec: str, *, settings: LanguageSettings) -> None:
    """What is wrong with a spec or its settings shows here, before anything is loaded.

    Raises:
        UserError: as `build_language_model`; a model that cannot be had.
    """
    if is_class_path(spec, LANGUAGE_MODELS):
        check_own(spec, OWN, settings=settings, group="language", offered=OFFERED)
        return
    refuse_own(settings, of=spec, group="language")
    name, _, argument = spec.partition(":")
    if name not in LANGUAGE_MODELS:
        raise _unknown(spec)
    if name == "openai":  # nothing is loaded or asked
        _openai(argument, settings=settings)
    if name in LOCAL:
        source = _source(name, argument)
        check_local(settings)
        if is_gguf(source):
            check_gguf(source)
        else:
            require_model(source, "config.json", what="language model", weights="*.safetensors")


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
    return unknown("language model", spec, OWN.members, also=HOW)


def build_language_model(spec: str, **options: Any) -> LanguageModel:
    """The language model that `spec` (`name`, `name:argument`, or the path of a person's own class) names.

    Args:
        options: Of its constructor: `settings` (`kka.settings.language.LanguageSettings`), `progress`, and more.

    Raises:
        UserError: unknown name, missing argument, or an option or setting that the model does not have.
    """
    settings = options.get("settings")
    if is_class_path(spec, LANGUAGE_MODELS):
        rest = {name: value for name, value in options.items() if name != "settings"}
        model: LanguageModel = build_own(spec, OWN, settings=settings or LanguageSettings(), group="language", **rest)
        return model
    refuse_own(settings, of=spec, group="language")
    name, _, argument = spec.partition(":")
    if name not in LANGUAGE_MODELS:
        raise _unknown(spec)
    return LANGUAGE_MODELS[name](argument, **options)
