"""Where networks run and in what precision, and how images get there."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn

from kka.errors import UserError
from kka.protocols import Images

M = TypeVar("M", bound=nn.Module)


def choose_device(device: str) -> torch.device:
    """auto: CUDA, else MPS, else CPU.

    Raises:
        UserError: no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen).cpu()  # which "meta" has not
    except (RuntimeError, AssertionError) as error:  # torch raises either, by kind of device
        raise UserError(
            f"device: expected auto, cpu, or a cuda or mps device of this machine; got {device!r}"
        ) from error
    return torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else chosen


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The dtype that `precision` means on `device`; None = plain fp32.

    auto is fp32 on every CPU: some have bf16 and some have not, and one command must give one result on both.
    """
    if precision == "fp32" or device.type == "mps":
        return None
    if device.type == "cuda":
        if has_bf16():
            return torch.bfloat16
        if precision == "bf16":
            raise UserError("precision: expected auto or fp32, as this GPU has no bf16; got bf16")
        return None
    return torch.bfloat16 if precision == "bf16" else None


def has_bf16() -> bool:
    """Whether the GPU computes in bf16 itself; where it is emulated it is slower than fp32."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def half_precision(device: torch.device) -> torch.dtype | None:
    """The 16 bits in which the weights of a language model are kept; None on a CPU, which keeps fp32."""
    if device.type == "cpu":
        return None
    return torch.float16 if device.type == "cuda" and not has_bf16() else torch.bfloat16


def seeded(build: Callable[[], M], device: torch.device, *, seed: int) -> M:
    """The module that `build` makes, with random weights of `seed`; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build()
    return module.to(device).to(memory_format=torch.channels_last)


def resident(
    images: Images, device: torch.device, *, limit: int, like: Tensor | None = None
) -> UInt8[Tensor, "n 3 h w"]:
    """Images on the device, once, at no more than `limit` pixels a side, or at the size of `like`."""
    side = (limit, limit) if like is None else (int(like.shape[2]), int(like.shape[3]))
    chunks = []
    for part in np.array_split(images, max(1, len(images) // 512)):
        x = torch.from_numpy(np.ascontiguousarray(part)).permute(0, 3, 1, 2)
        fits = max(x.shape[2:]) <= limit if like is None else x.shape[2:] == like.shape[2:]
        if not fits:
            x = F.interpolate(x.float(), size=side, mode="bilinear", antialias=True, align_corners=False)
            x = x.round().clamp(0, 255).to(torch.uint8)
        chunks.append(x.to(device))
    return torch.cat(chunks)
