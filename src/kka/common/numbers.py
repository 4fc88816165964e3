"""Numbers that are numbers: NaN and infinity are refused where they are made, with one error."""

from typing import Any, TypeVar

import numpy as np

from kka.errors import UserError

T = TypeVar("T", float, np.ndarray)

DIVERGED = "The training diverged: train again with a lower learning rate"
DAMAGED = (
    "Its weights are damaged, or its training diverged: copy it anew, or train it again with a lower learning rate"
)


def require_finite(values: T, what: str, do: str) -> T:
    """`values` as they are, a float or an array.

    Args:
        what: They are, as the error says it: "the loss of epoch 3".
        do: What a person can do about it, without the full stop.

    Raises:
        UserError: one of them is NaN or infinite.
    """
    bad = ~np.isfinite(values)
    if np.any(bad):
        got = f"{float(values):g}" if np.ndim(values) == 0 else _counted(np.asarray(values), bad)
        raise UserError(f"{what}: expected finite numbers; got {got}. {do}.")
    return values


def _counted(values: np.ndarray, bad: np.ndarray) -> str:
    places = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
    return f"{float(values[bad][0]):g} among them (in {len(places)} of {len(bad)}, the first at position {places[0]})"


def require_finite_tensors(tensors: Any, what: str, do: str) -> None:
    """As `require_finite`, of a mapping of names to tensors; the error names the first that is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"{what}: expected finite numbers; got NaN or infinity in {name}. {do}.")
