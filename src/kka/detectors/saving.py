"""A detector on disk: `detector.json`, which says how it was made, and its tensors as safetensors."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from kka.common.disk import reading
from kka.common.files import write_atomically
from kka.errors import UserError

CARD = "detector.json"
WEIGHTS = "weights.safetensors"

S = TypeVar("S")


def write(path: Path, name: str, tensors: Mapping[str, Tensor], **card: Any) -> None:
    """Both files into the folder `path`; the card last, so that a folder with a card is whole."""
    from safetensors.torch import save_file

    path.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path / WEIGHTS)
    write_card(path, {"detector": name, **card})


def write_card(path: Path, card: Mapping[str, Any]) -> None:
    """The card of the detector in the folder `path`. Settings may be dataclasses."""
    plain = {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in card.items()}  # type: ignore[arg-type]
    write_atomically(path / CARD, json.dumps(plain, indent=1))


def read_card(path: Path) -> dict[str, Any]:
    """Raises UserError where the folder `path` holds no detector, or a damaged card."""
    if not (path / CARD).is_file():
        raise UserError(f"detector: expected {path / CARD}, as a detector's save writes it; found none")
    try:
        loaded: dict[str, Any] = json.loads((path / CARD).read_text())
    except ValueError as error:
        raise UserError(f"detector: {path / CARD} is damaged ({error}); copy or train the detector anew") from error
    return loaded


def read_tensors(path: Path) -> dict[str, Tensor]:
    """What `write` wrote beside the card."""
    from safetensors.torch import load_file

    with reading(path / WEIGHTS):
        return load_file(path / WEIGHTS)


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
