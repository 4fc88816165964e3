"""Language models (Eq. 3, 7), by spec: ``hf:<hub id or folder>``, ``openai:<model>``, ``garden``.

To add one: write a class with `sample` (see `kka.protocols.LanguageModel`), and a line in `LANGUAGE_MODELS`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kka.common.members import build_member
from kka.errors import UserError, unknown
from kka.protocols import LanguageModel


def _hf(argument: str, **options: Any) -> LanguageModel:
    if not argument:
        raise UserError("language model: expected hf:<hub id or folder>; got 'hf' without one")
    from kka.language.hf import HFLanguageModel

    model: LanguageModel = build_member(HFLanguageModel, "language model hf", options, argument)
    return model


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


LANGUAGE_MODELS: dict[str, Callable[..., LanguageModel]] = {"hf": _hf, "openai": _openai, "garden": _garden}
"""Name -> builder, called with what follows the colon of the spec, and options."""


def build_language_model(spec: str, **options: Any) -> LanguageModel:
    """The language model that `spec` (`name` or `name:argument`) names.

    Args:
        options: Of its constructor: `settings` (`kka.settings.language.LanguageSettings`), `progress`, and more.

    Raises:
        UserError: unknown name, missing argument, or an option or setting that the model does not have.
    """
    name, _, argument = spec.partition(":")
    if name not in LANGUAGE_MODELS:
        raise unknown(
            "language model", spec, [f"{known}:…" if known != "garden" else known for known in LANGUAGE_MODELS]
        )
    return LANGUAGE_MODELS[name](argument, **options)
