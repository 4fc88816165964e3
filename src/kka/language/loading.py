"""Loads a causal language model and its tokenizer: safetensors only, no remote code unasked, errors that help."""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from kka.common.device import half_precision, has_bf16
from kka.common.hub import require_model
from kka.errors import UserError
from kka.language.gguf import as_unquantised, check_gguf, is_gguf, silent


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """transformers draws no bars of its own meanwhile: a run has one progress display."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def load_model(
    source: str, device: torch.device, load_in_4bit: bool, trust_remote_code: bool, revision: str | None,
    precision: str = "auto",
) -> tuple[Any, Any]:  # fmt: skip
    """Model and tokenizer, ready to sample. `source`: a hub id, a folder, or a GGUF file.

    Raises:
        UserError: a model that cannot be loaded; a precision that the device has not.
    """
    here = check_source(source, revision)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code, "revision": revision or "main"}
    options["local_files_only"] = here
    weights: dict[str, Any] = {"dtype": weights_dtype(precision, device)}
    place, from_file = source, is_gguf(source)
    damaged: tuple[type[Exception], ...] = _DAMAGED + _DAMAGED_FILE if from_file else _DAMAGED
    if from_file:
        file = Path(source).expanduser()
        place, options["gguf_file"] = str(file.parent), file.name
    if load_in_4bit and from_file:
        raise UserError("language.load_in_4bit: a GGUF file is dequantised as it is read; give the model's own folder")
    if load_in_4bit:
        weights["quantization_config"] = four_bits(device)
        weights["device_map"] = {"": device}
    try:
        with no_progress_bars(), silent() if from_file else nullcontext():
            tokenizer = AutoTokenizer.from_pretrained(place, **options)
            if not from_file:
                options["use_safetensors"] = True
            model: Any = AutoModelForCausalLM.from_pretrained(place, **weights, **options)
            if from_file:
                model = as_unquantised(model, weights["dtype"])
    except damaged as error:
        raise UserError(
            f"language model {source!r} cannot be loaded. {EXPECTED_FILE if from_file else EXPECTED} transformers "
            f"says: {(str(error).strip().splitlines() or [type(error).__name__])[0]}"
        ) from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"language model {source!r}: its tokenizer names no end-of-sequence token, so no answer ends")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not load_in_4bit:
        model.to(device)
    return model.eval().requires_grad_(False), tokenizer


def weights_dtype(precision: str, device: torch.device) -> torch.dtype:
    """In what the weights are kept, from the file on: fp32 ones that came through 16 bits would be rounded.

    Raises:
        UserError: bf16, on a GPU that has none.
    """
    if precision == "auto":
        return half_precision(device) or torch.float32
    if precision == "bf16" and not has_bf16(device):
        raise UserError("language.precision: expected auto or fp32, as this GPU has no bf16; got bf16")
    return torch.float32 if precision == "fp32" else torch.bfloat16


EXPECTED = (
    "Expected a folder with config.json, tokenizer files and *.safetensors, or the id of a model on the Hugging Face "
    "hub (owner/name) that can be reached from here: check the spelling and the network, run `hf auth login` for a "
    "gated model, or download it and give the folder."
)
EXPECTED_FILE = "Expected a whole GGUF file of an architecture that transformers reads (Llama, Qwen, Gemma, …)."
_DAMAGED = (OSError, ValueError, KeyError, ImportError, SafetensorError)
_DAMAGED_FILE = (IndexError, TypeError, AttributeError, RuntimeError, struct.error)
"""What the readers of a damaged GGUF file run into."""


def check_source(source: str, revision: str | None = None) -> bool:
    """Whether the model is to be read from here alone.

    Raises:
        UserError: it cannot be had.
    """
    if is_gguf(source):
        check_gguf(source)
        return True
    return require_model(source, "config.json", what="language model", weights="*.safetensors", revision=revision)


def four_bits(device: torch.device) -> Any:
    """bitsandbytes NF4. Raises UserError where there is no CUDA or no bitsandbytes."""
    from importlib.util import find_spec

    from transformers import BitsAndBytesConfig

    if device.type != "cuda" or find_spec("bitsandbytes") is None:
        raise UserError(
            "4-bit loading: expected a CUDA device and the package bitsandbytes (pip install 'kka[4bit]'); got device "
            f"{device.type}, bitsandbytes {'installed' if find_spec('bitsandbytes') else 'missing'}"
        )
    dtype = half_precision(device)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def identify(source: str, revision: str | None) -> str:
    """A name for the model that changes with its weights; of a folder, apart from where it lies."""
    path = Path(source).expanduser()
    if not path.exists():
        return f"hf:{source}@{revision or 'main'}"
    digest = hashlib.blake2b(digest_size=8)
    parts = [path / "config.json", *path.glob("*.safetensors"), *path.glob("tokenizer*.json")]
    for file in [path] if path.is_file() else sorted(parts):
        with file.open("rb") as stream:
            digest.update(f"{file.name} {file.stat().st_size} ".encode())
            digest.update(stream.read(1 << 20))
            stream.seek(max(0, file.stat().st_size - (1 << 20)))  # a checkpoint's ends tell it apart
            digest.update(stream.read(1 << 20))
    return f"hf:{path.resolve().name}#{digest.hexdigest()}"
