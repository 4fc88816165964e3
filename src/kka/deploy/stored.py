"""A detector as it lies in a folder, opened: with its threshold, and how its card says that photos become pictures."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from kka.common.files import image_files
from kka.common.images import LARGEST_SIZE
from kka.common.photos import PhotoFiles
from kka.common.pixels import WHITE
from kka.common.tiles import OVERLAP
from kka.deploy.calibrate import Calibration
from kka.deploy.chosen import AT_HAND, Chosen, read_chosen
from kka.deploy.defects import Caught
from kka.detectors import detector_class, load_detector
from kka.errors import UserError
from kka.protocols import Detector
from kka.settings.fit import Fit

CHECK = "check"
"""The folder, beside a detector's card, with a few normals: what an exported graph is compared on."""
DEFECTS = "defects"
"""In a detector's card: what it finds of the defects at hand."""
Threshold = Literal["defects"]
"""Whose, in the place of that of held-out normals or of a person's choice."""
MOST_OVERLAP = 0.9
"""Of tiles: beyond, each pixel would be looked at a hundred times."""
INSPECTION = "inspection"
"""The files, beside a detector's card, with its figures by kind of defect: .csv and .json."""
NO_THRESHOLD = "no threshold: this detector came without held-out normals; kka train --anomalies RUN makes one with it"
"""What scoring and export say of a detector that a run kept."""


@dataclass(frozen=True, kw_only=True)
class StoredDetector:
    """A detector as it lies in a folder, with what its card says of pictures and threshold."""

    detector: Detector
    name: str
    size: int
    """Side in pixels of the pictures that it takes."""
    calibration: Calibration | None
    folder: Path
    chosen: Chosen | None = None
    """The threshold that a person chose in the place of the calibration's."""
    white: int = WHITE
    """The value of 16-bit grey files that is white, by the normals that it was trained on."""

    fit: Fit = "crop"
    """How a photo becomes a square. A card that does not say it is of a time when all were cropped."""
    overlap: float = OVERLAP
    """Of tiles, where it is cut into such."""

    caught: Caught | None = None
    """Of the defects that the person had at hand."""

    def photos(self, files: Sequence[Path], masks: Mapping[Path, tuple[Path, ...]] | None = None) -> PhotoFiles:
        """Whole photos, cut as it sees them. `masks`: file -> those of its masks."""
        return PhotoFiles(
            files=tuple(files), side=self.size, white=self.white, overlap=self.overlap, masks=masks or {}
        )  # fmt: skip

    def by(self, threshold: Threshold | None) -> "StoredDetector":
        """With the threshold of the defects at hand; None: as it is.

        Raises:
            UserError: there is none of defects.
        """
        if threshold is None:
            return self
        found = None if self.caught is None else self.caught.threshold
        if self.caught is None or self.calibration is None or found is None:
            why = "was trained without --defects" if self.caught is None else "has none: " + " ".join(
                self.caught.sentences(self.calibration)[1:] if self.calibration else ["no normals were held out"]
            )
            raise UserError(f"--threshold defects: expected a detector that has one of defects; {self.folder} {why}")
        return dataclasses.replace(
            self, chosen=Chosen(threshold=found, promised=self.caught.fpr_most, by=AT_HAND)
        )

    @property
    def threshold(self) -> float | None:
        """What a score must exceed to be anomalous: chosen by a person, else set by training; None: there is none."""
        if self.chosen is not None:
            return self.chosen.threshold
        return None if self.calibration is None else self.calibration.threshold

    @property
    def rate(self) -> float | None:
        """The false-positive rate of that threshold: what was wanted, or what one that a person chose promises."""
        if self.chosen is not None:
            return self.chosen.promised
        return None if self.calibration is None else self.calibration.fpr

    @property
    def check(self) -> Sequence[Path]:
        """The normals that were kept beside it."""
        return image_files([self.folder / CHECK]) if (self.folder / CHECK).is_dir() else ()


def open_detector(folder: Path, *, of: str | None = None) -> StoredDetector:
    """The detector that `kka train` or a run kept.

    Args:
        of: The person's own class that its card names, where the person names it too: see `kka.common.own`.

    Raises:
        UserError: none there, or one whose card does not say the size of its pictures, or says what cannot be; one of
            another class than `of`.
    """
    from kka.detectors.saving import CARD, read_card

    card = read_card(folder)
    if of is not None:
        if of != card.get("detector"):
            raise UserError(f"detector: expected {folder} to hold one of {of}; its {CARD} says {card.get('detector')}")
        detector_class(of)
    size, white, stored = card.get("image_size"), card.get("white", WHITE), card.get("calibration")
    sides = size if isinstance(size, list) and len(size) == 2 else (0, 1)
    if sides[0] != sides[1] or not _whole(sides[0], LARGEST_SIZE):
        raise UserError(
            f'{folder / CARD}: expected "image_size": [h, w] with h = w, 1 to {LARGEST_SIZE}, as kka train and kka run '
            f"write it; got {size}"
        )
    if not _whole(white, WHITE):
        raise UserError(f'{folder / CARD}: expected "white" to be a whole number from 1 to {WHITE}; got {white}')
    fit = card.get("fit", "crop")
    if fit not in get_args(Fit):
        raise UserError(f'{folder / CARD}: expected "fit" to be {", ".join(get_args(Fit))}; got {fit!r}')
    told = card.get(DEFECTS)
    overlap = card.get("overlap", OVERLAP)
    if not isinstance(overlap, int | float) or isinstance(overlap, bool) or not 0 <= overlap <= MOST_OVERLAP:
        raise UserError(f'{folder / CARD}: expected "overlap" to be 0 to {MOST_OVERLAP}; got {overlap!r}')
    try:
        calibration = None if stored is None else Calibration.from_card(stored)
        caught = None if told is None else Caught(**told)
    except (TypeError, UserError) as error:
        raise UserError(f"{folder / CARD}: {error}. Copy the card anew, or train the detector again.") from error
    return StoredDetector(
        detector=load_detector(folder), name=card["detector"], size=sides[0], calibration=calibration, folder=folder,
        chosen=read_chosen(folder), white=white, fit=fit, overlap=overlap, caught=caught,
    )  # fmt: skip


def _whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
