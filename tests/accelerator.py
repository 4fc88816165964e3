"""An accelerator that is none, for tests on a CPU: it computes on the CPU and refuses what CUDA or MPS would refuse.

Its device is "lazy", which PyTorch knows by name and whose gradients it computes on the CPU's own thread. Tensors
there are wrappers: an operation with one of the CPU, or with 64-bit floats, which MPS has not, is an error; what makes
the program wait for the device is counted.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("lazy")
aten = torch.ops.aten
WAITS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default, aten.nonzero.default}
"""What asks the device for a number, or for a size."""
HALF_OF_MPS = {torch.float64, torch.complex128}
"""Dtypes that MPS has not."""


class There(torch.Tensor):
    """A tensor of the accelerator, whose numbers are those of `here`."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "There":
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            device=DEVICE, requires_grad=here.requires_grad,
        )  # fmt: skip
        made.here = here
        return made

    def __repr__(self) -> str:
        return f"There({self.here!r})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["here"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], *_: Any) -> "There":
        return There(inner["here"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of the accelerator's block")


class Accelerator(TorchDispatchMode):
    """While it is on, the device "lazy" is there."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        """Times that the program waited, by operation."""
        self.operations: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        asked = kwargs.get("device")
        there = any(isinstance(x, There) for x in tensors)
        goes = asked is not None and torch.device(asked).type == DEVICE.type
        if not there and not goes:
            return func(*args, **kwargs)
        self.operations.add(str(func))
        if goes:
            kwargs["device"] = torch.device("cpu")
        moves = func in (aten.copy_.default, aten._to_copy.default)
        comes = there and asked is not None and not goes
        if comes or (func is aten.copy_.default and not isinstance(args[0], There)) or func in WAITS:
            self.waits[str(func)] += 1
        plain = [x for x in tensors if not isinstance(x, There) and x.dim()]
        if func is aten.index.Tensor and any(isinstance(x, There) and x.dtype == torch.bool for x in tensors[1:]):
            self.waits[str(func)] += 1
        if plain and func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default):
            self.waits[f"{func} by places of the CPU"] += 1
        elif plain and not moves:
            raise RuntimeError(f"{func}: tensors on the accelerator and on the CPU")
        if any(isinstance(x, There) and x.dtype in HALF_OF_MPS for x in tensors):
            raise TypeError(f"{func}: the accelerator has no float64")
        found = func(*tree_map(_here, args), **tree_map(_here, kwargs))
        if func is aten.copy_.default:
            return args[0]
        if comes or func in WAITS:
            return found
        if any(isinstance(x, torch.Tensor) and x.dtype in HALF_OF_MPS for x in tree_flatten(found)[0]):
            raise TypeError(f"{func}: the accelerator has no float64")
        found = tree_map(lambda x: There(x) if isinstance(x, torch.Tensor) else x, found)
        return return_and_correct_aliasing(func, args, kwargs, found) if there else found


def _here(x: Any) -> Any:
    return x.here if isinstance(x, There) else x


_TENSOR = torch.tensor


def tensor(values: Any, *args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
    found = _TENSOR(values, *args, **kwargs)
    return found if device is None else found.to(device)


_GENERATOR = torch.Generator


class _Kind(type(torch.Generator)):  # type: ignore[misc]
    def __instancecheck__(cls, found: Any) -> bool:  # annotations are looked up once, here or outside
        return isinstance(found, _GENERATOR)


class Generator(torch.Generator, metaclass=_Kind):
    def __new__(cls, device: Any = "cpu") -> torch.Generator:  # type: ignore[misc]
        return super().__new__(cls, "cpu" if torch.device(device).type == DEVICE.type else device)


class Autocast(torch.autocast):
    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        if device_type == DEVICE.type:
            device_type, args, kwargs = "cpu", (), {"enabled": False}
        super().__init__(device_type, *args, **kwargs)


@contextmanager
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    """The device "lazy" is there inside, with what PyTorch knows of CUDA and MPS by their names alone."""
    with monkeypatch.context() as patch:
        patch.setattr(torch, "tensor", tensor)
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(torch, "autocast", Autocast)
        for module in ("adam", "adamw", "sgd", "optimizer"):
            name = "_get_fused_kernels_supported_devices"
            found = __import__(f"torch.optim.{module}", fromlist=["x"])
            if hasattr(found, name):
                patch.setattr(found, name, lambda: ["cpu", DEVICE.type])
        with Accelerator() as mode:
            yield mode
