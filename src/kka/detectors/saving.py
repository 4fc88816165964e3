"""A detector on disk: `detector.json`, which says how it was made, and its tensors as safetensors."""

import dataclasses
import json
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kka.common.device import choose_device
from kka.common.disk import reading
from kka.common.files import write_atomically
from kka.common.json_text import parse_json
from kka.common.numbers import DAMAGED, DIVERGED, require_finite_tensors
from kka.errors import UserError

CARD = "detector.json"
WEIGHTS = "weights.safetensors"

S = TypeVar("S")


def write(path: Path, name: str, tensors: Mapping[str, Tensor], **card: Any) -> None:
    """Both files into the folder `path`; the card last, so that a folder with a card is whole.

    Raises:
        UserError: weights that are no numbers: a training that diverged is not kept.
    """
    from safetensors.torch import save_file

    require_finite_tensors(tensors, f"detector {name}: its weights", DIVERGED)
    path.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path / WEIGHTS)
    write_card(path, {"detector": name, **card})


def write_card(path: Path, card: Mapping[str, Any]) -> None:
    """The card of the detector in the folder `path`. Settings may be dataclasses."""
    plain = {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in card.items()}  # type: ignore[arg-type]
    text = re.sub(r"\[\n\s*([^\[\]{}\"]*?)\n\s*\]", _on_one_line, json.dumps(plain, indent=1))
    write_atomically(path / CARD, text)


def _on_one_line(numbers: re.Match[str]) -> str:
    """A list of numbers: hundreds of lines of held-out scores would hide all else that stands in a card."""
    return "[" + " ".join(numbers[1].split()) + "]"


def read_card(path: Path) -> dict[str, Any]:
    """Raises UserError where the folder `path` holds no detector, or a damaged card."""
    if not (path / CARD).is_file():
        raise UserError(f"detector: expected {path / CARD}, as a detector's save writes it; found none")
    try:
        loaded = parse_json((path / CARD).read_text(), parse_constant=_number, parse_float=_number)
    except ValueError as error:
        raise UserError(f"detector: {path / CARD} is damaged ({error}); copy or train the detector anew") from error
    if not isinstance(loaded, dict):
        raise UserError(
            f"detector: expected an object in {path / CARD}, as a detector's save writes it; got "
            f"{type(loaded).__name__}. Copy or train the detector anew"
        )
    return loaded


def _number(text: str) -> float:
    """JSON as Python reads it has NaN and Infinity, and 1e999 is infinite too."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected finite numbers; got {text}")
    return value


def read_tensors(path: Path) -> dict[str, Tensor]:
    """What `write` wrote beside the card.

    Raises:
        UserError: weights that are no numbers.
    """
    from safetensors.torch import load_file

    with reading(path / WEIGHTS):
        tensors = load_file(path / WEIGHTS)
    require_finite_tensors(tensors, f"detector: the weights in {path / WEIGHTS}", DAMAGED)
    return tensors


def device_here(device: str) -> torch.device:
    """The card's device, or what this machine has instead, with a warning: detectors travel.

    Raises:
        UserError: no name of a device at all.
    """
    try:
        return choose_device(device)
    except UserError:
        try:
            torch.device(device)
        except RuntimeError:
            raise UserError(f"detector: expected a device in its {CARD} such as auto, cpu or cuda; got {device!r}. "
                            "Write auto there") from None  # fmt: skip
        found = choose_device("auto")
        warnings.warn(f"detector: this machine has no device {device}, which its {CARD} names; {found} takes its place",
                      stacklevel=3)  # fmt: skip
        return found


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill `module`, strictly.

    Raises:
        UserError: tensors that are missing, left over, or of another shape.
    """
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise does_not_fit(path, error) from error


def does_not_fit(path: Path, error: Exception) -> UserError:
    """The error for weights that are not those that the card beside them describes."""
    return UserError(f"detector: the weights in {path} do not fit its {CARD}; were the files mixed? {error}")


def settings_from(kind: type[S], stored: Mapping[str, Any]) -> S:
    """The settings dataclass from the card: JSON's lists become tuples."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()})
