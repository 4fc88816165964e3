"""Where networks run and in what precision, and how images get there."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn

from kka.common.mapped import LARGE, empty
from kka.errors import UserError
from kka.protocols import Images

M = TypeVar("M", bound=nn.Module)
SMALL_SHARE = 0.25
"""Of a GPU's free memory, for images."""


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
    images: Images, device: torch.device, *, limit: int, beside: Images | None = None
) -> UInt8[Tensor, "_n 3 h w"]:
    """Images, and those `beside` them, once, at no more than `limit` pixels a side, or at the size of the first.

    They lie on the device where they take a small part of its memory; else, and on a CPU, in this machine's memory, or
    beyond a certain size on its disk (`kka.common.mapped`). `batch_at` takes those of a batch.
    """
    height, width = (int(side) for side in images.shape[1:3])
    if max(height, width) > limit:
        height = width = limit
    n = len(images) + (0 if beside is None else len(beside))
    shape = (n, 3, height, width)
    if _has_room(device, n * 3 * height * width):
        found = torch.empty(shape, dtype=torch.uint8, device=device)
    else:
        found = torch.from_numpy(empty(shape))
    done = 0
    for given in (images, *(() if beside is None else (beside,))):
        for part in np.array_split(given, max(1, len(given) // 512)):
            x = torch.from_numpy(np.ascontiguousarray(part)).permute(0, 3, 1, 2)
            if x.shape[2:] != found.shape[2:]:
                x = F.interpolate(x.float(), size=shape[2:], mode="bilinear", antialias=True, align_corners=False)
                x = x.round().clamp(0, 255).to(torch.uint8)
            found[done : done + len(x)] = x
            done += len(x)
    return found


def _has_room(device: torch.device, wanted: int) -> bool:
    if device.type == "cuda":
        return wanted <= SMALL_SHARE * torch.cuda.mem_get_info(device)[0]
    return device.type == "mps" and wanted <= LARGE


def batch_at(pixels: UInt8[Tensor, "_n 3 h w"], index: Tensor, device: torch.device) -> UInt8[Tensor, "b 3 h w"]:
    """The images at these places, on the device."""
    return pixels[index.to(pixels.device)].to(device, non_blocking=True)
