"""Where networks run and in what precision, and how images get there.

On CUDA, equal seeds are to give equal runs on one machine, so the first choice of such a device makes the process's
sums repeatable. Trainings in fp32 keep PyTorch's own settings: products in fp32, convolutions in TF32. Scores are fp32
throughout (`full_precision`).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

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
    """auto: CUDA, else MPS, else CPU. CUDA's work is made repeatable, for the whole process.

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
    if chosen.type == "cuda":
        _repeatable()
    return torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else chosen


def _repeatable() -> None:
    """CUDA adds up in the same order every time; of an operation that cannot, PyTorch warns."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which cuBLAS reads at its first product
    torch.backends.cudnn.benchmark = False  # what is fastest now may be another way the next time
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs a pass each


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, fp32 on CUDA is fp32. TF32 has 10 of its 23 bits: scores would differ by more than 1e-4 from those of a
    CPU and of an exported file, which thresholds are to hold for."""
    kinds: tuple[Any, ...] = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The dtype that `precision` means on `device`; None = plain fp32.

    auto is fp32 on every CPU: some have bf16 and some have not, and one command must give one result on both.
    """
    if precision == "fp32" or device.type == "mps":
        return None
    if device.type == "cuda":
        if has_bf16(device):
            return torch.bfloat16
        if precision == "bf16":
            raise UserError("precision: expected auto or fp32, as this GPU has no bf16; got bf16")
        return None
    return torch.bfloat16 if precision == "bf16" else None


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 itself; where a GPU emulates it, it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type != "mps" or torch.backends.mps.is_macos_or_newer(14, 0)


def half_precision(device: torch.device) -> torch.dtype | None:
    """The 16 bits in which the weights of a language model are kept; None on a CPU, which keeps fp32."""
    if device.type == "cpu":
        return None
    return torch.bfloat16 if has_bf16(device) else torch.float16


def sent(x: Tensor, device: torch.device) -> Tensor:
    """`x` on the device. From pinned memory a copy to CUDA queues behind the work that is there; any other from the CPU
    would wait until all of that is done."""
    pinned = device.type == "cuda" and x.device.type == "cpu"
    return x.pin_memory().to(device, non_blocking=True) if pinned else x.to(device)


def wait_for(device: torch.device) -> None:
    """Until all that it was given to do is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def cpu_randomness(seed: int) -> Iterator[None]:
    """Inside, the CPU's global generator is seeded; afterwards it stands where it stood, and those of GPUs, which
    `torch.manual_seed` would set too, have never moved."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def seeded(build: Callable[[], M], device: torch.device, *, seed: int) -> M:
    """The module that `build` makes, with random weights of `seed`; the global random state stays as it was."""
    with cpu_randomness(seed):
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
    """The images at these places, on the device. `index`: of the CPU."""
    return sent(pixels[index], device) if pixels.device.type == "cpu" else pixels[sent(index, device)]
