"""Wing 1: language models (Eq. 3, 7), by spec: ``hf:<hub id or folder>``, ``openai:<model>``, ``garden``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kka.errors import UserError, unknown
from kka.protocols import LanguageModel


def _hf(argument: str, **options: Any) -> LanguageModel:
    if not argument:
        raise UserError("language model: expected hf:<hub id or folder>; got 'hf' without one")
    from kka.language.hf import HFLanguageModel

    return HFLanguageModel(argument, **options)


def _openai(argument: str, **options: Any) -> LanguageModel:
    if not argument:
        raise UserError("language model: expected openai:<model name>; got 'openai' without one")
    from kka.language.openai import OpenAILanguageModel

    return OpenAILanguageModel(argument, **options)


GARDEN_LM = Path(__file__).parent.parent / "garden" / "lm"
"""The shipped model of the embedded world. Rebuilt by ``kka lm train --data garden --out src/kka/garden/lm``."""


def _garden(argument: str, **options: Any) -> LanguageModel:
    if argument:
        raise UserError(f"language model: 'garden' takes no argument; got 'garden:{argument}'")
    from kka.language.hf import HFLanguageModel

    return HFLanguageModel(GARDEN_LM, **options)


LANGUAGE_MODELS: dict[str, Callable[..., LanguageModel]] = {"hf": _hf, "openai": _openai, "garden": _garden}


def build_language_model(spec: str, **options: Any) -> LanguageModel:
    """The language model that `spec` (`name` or `name:argument`) names; `options` go to its constructor.

    Raises:
        UserError: unknown name, missing argument, or an option that the model does not take.
    """
    name, _, argument = spec.partition(":")
    if name not in LANGUAGE_MODELS:
        raise unknown(
            "language model", spec, [f"{known}:…" if known != "garden" else known for known in LANGUAGE_MODELS]
        )
    try:
        return LANGUAGE_MODELS[name](argument, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise UserError(f"language model {spec!r}: {error}") from error
