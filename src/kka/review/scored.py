"""Photos that a kept detector scored, to look through: by score, by verdict at any threshold, by what was said of them.

A photo has the number of its place in the folder as its name, so that no path comes from a browser.
"""

import io
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from kka.common.folder_words import GOOD
from kka.common.images import ImageError, view
from kka.common.metrics import anomalous
from kka.common.walk import printable
from kka.deploy.chosen import LARGEST, Chosen, keep_chosen, read_chosen
from kka.deploy.heat import on_photo, overlay
from kka.deploy.labels import Label, labels_of
from kka.deploy.marks import ANOMALOUS, NORMAL, Mark, add_mark, read_marks
from kka.deploy.score import limits_of, maps_of_files, normal_heat
from kka.deploy.stored import StoredDetector
from kka.deploy.stored_scores import ScoredPhoto
from kka.errors import UserError
from kka.protocols import Localises
from kka.task import SetAside

THUMBNAIL, LARGE = 192, 1024
"""Pixels a side, at most, of a picture in the grid, and of the one beside it."""
KINDS = ("all", "above the threshold", "below the threshold", "wrong", "marked", "not marked", "good by its folder",
         "a defect by its folder", "set aside")  # fmt: skip
""""wrong": a person said the other than the threshold. By its folder: what folders say of photos, as of a test set."""
MOST, LEAST, NEAREST, BY_NAME = ORDERS = (
    "most anomalous first", "least anomalous first", "nearest to the threshold first", "by name",
)  # fmt: skip
MAPS, LARGE_MAPS = 256, 16
"""Heat maps that stay in memory; of whole photos, which are many times as large."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A photo with what is known of it."""

    number: int
    photo: ScoredPhoto
    name: str
    """Its path below the folder that was named, as it can be printed."""
    label: Label | None


class ScoredPhotos:
    """All photos with their scores, and all that was said of them."""

    def __init__(
        self,
        kept: StoredDetector,
        photos: Sequence[ScoredPhoto],
        named: Sequence[Path],
        marks: Path,
        *,
        set_aside: Sequence[SetAside] = (),
    ) -> None:
        """
        Args:
            named: The files and folders that the photos were found by.
            marks: The file of what was said, which need not be there yet.
        """
        labels = labels_of(named)
        self.kept, self.file, self.set_aside = kept, marks, tuple(set_aside)
        self.chosen = kept.chosen
        self.shown = [
            Shown(number=i, photo=photo, name=_name(photo.file, named), label=labels.get(photo.file.resolve()))
            for i, photo in enumerate(photos)
        ]
        self.scores = np.array([photo.score for photo in photos], np.float32)
        self.marks: Mapping[str, Mark] = read_marks(marks)
        self._lock = Lock()  # of the detector, which answers one at a time
        self._maps: OrderedDict[int, np.ndarray] = OrderedDict()
        self._limits: tuple[float, float] | None = None

    @property
    def threshold(self) -> float | None:
        """The one that counts: chosen by a person, else the detector's own."""
        calibration = self.kept.calibration
        own = None if calibration is None else calibration.threshold
        return own if self.chosen is None else self.chosen.threshold

    def find(self, *, kind: str, order: str, words: str, threshold: float | None) -> list[Shown]:
        """The photos of a kind whose names hold all the words."""
        above = np.zeros(len(self.scores), bool) if threshold is None else anomalous(self.scores, threshold)
        wanted = words.lower().split()
        found = [
            one for one in self.shown
            if self._is(one, kind, bool(above[one.number])) and all(word in one.name.lower() for word in wanted)
        ]  # fmt: skip
        if order == BY_NAME:
            return sorted(found, key=lambda one: one.name)
        nearest = 0.0 if threshold is None else threshold
        keys = {
            MOST: -self.scores, LEAST: self.scores,
            NEAREST: np.abs(self.scores - np.float32(nearest)),
        }  # fmt: skip
        return sorted(found, key=lambda one: (float(keys[order][one.number]), one.number))

    def _is(self, one: Shown, kind: str, above: bool) -> bool:
        said = self.said(one)
        return {
            "all": True, "above the threshold": above, "below the threshold": not above,
            "wrong": said == (NORMAL if above else ANOMALOUS),
            "marked": one.photo.sha256 in self.marks, "not marked": one.photo.sha256 not in self.marks,
            "good by its folder": one.label is not None and one.label.kind == GOOD,
            "a defect by its folder": one.label is not None and one.label.kind != GOOD,
        }[kind]  # fmt: skip

    def said(self, one: Shown) -> str | None:
        """What a person said of its content last."""
        mark = self.marks.get(one.photo.sha256)
        return None if mark is None else mark.said

    def told(self, one: Shown) -> dict[str, Any]:
        """What the page shows of a photo."""
        return {
            "id": one.number, "name": one.name, "score": one.photo.score, "said": self.said(one),
            "label": None if one.label is None else one.label.kind,
        }  # fmt: skip

    def mark(self, number: int, said: str, threshold: float | None) -> None:
        """Keep what is said of a photo, on disk first.

        Raises:
            UserError: of a photo that is not here, or what cannot be said.
        """
        photo = self.at(number).photo
        path = str(photo.file.absolute())
        mark = Mark(sha256=photo.sha256, bytes=photo.bytes, path=path, said=said, score=photo.score,
                    threshold=threshold)  # fmt: skip
        add_mark(self.file, mark)
        self.marks = {**self.marks, photo.sha256: mark}

    def marked(self) -> list[tuple[float, str]]:
        """Score and what was said, of each of these photos that something was said of."""
        return [(one.photo.score, said) for one in self.shown if (said := self.said(one)) is not None]

    def choose(self, threshold: float | None) -> None:
        """Have this threshold count for the detector from now on; None: its own again."""
        chosen = None
        if threshold is not None:
            calibration = self.kept.calibration
            promised = None if calibration is None else calibration.promised_at(threshold)
            chosen = Chosen(threshold=threshold, promised=promised)
        keep_chosen(self.kept.folder, chosen)
        self.chosen = read_chosen(self.kept.folder)

    def at(self, number: int) -> Shown:
        """The photo of this number.

        Raises:
            UserError: there is none.
        """
        if not 0 <= number < len(self.shown):
            raise UserError(f"review: expected the number of a photo, 0 to {len(self.shown) - 1}; got {number}")
        return self.shown[number]

    def image(self, number: int, *, side: int) -> bytes | None:
        """The photo as a JPEG; None where it is gone or changed beyond reading."""
        try:
            return _jpeg(view(self.at(number).photo.file, side, self.kept.white))
        except (ImageError, UserError):
            return None

    def heat(self, number: int, *, side: int) -> bytes | None:
        """The photo under its heat map, in the one scale of all."""
        try:
            photo = view(self.at(number).photo.file, side, self.kept.white)
        except (ImageError, UserError):
            return None
        found = self._map(number)
        if found is None:
            return None
        heat, limits = found
        placed = on_photo(heat, self.kept.fit, *photo.size)
        return _jpeg(Image.fromarray(overlay(np.asarray(photo), placed, limits)))

    def _map(self, number: int) -> tuple[np.ndarray, tuple[float, float]] | None:
        """The detector's map of a photo, and where colour begins and is full."""
        detector = self.kept.detector
        if not isinstance(detector, Localises):
            return None
        with self._lock:
            if number not in self._maps:
                try:
                    found = next(maps_of_files(detector, self.kept, [self.shown[number].photo.file]), None)
                except UserError:  # gone, or changed beyond reading
                    found = None
                if found is None:
                    return None
                self._maps[number] = found
                if len(self._maps) > (LARGE_MAPS if self.kept.fit == "tile" else MAPS):
                    self._maps.popitem(last=False)
            if self._limits is None:
                self._limits = limits_of(self.kept, normal_heat(self.kept, self._least_anomalous(detector)))
            return self._maps[number], self._limits

    def _least_anomalous(self, detector: Localises) -> np.ndarray:
        """Maps of a few photos, for a detector that kept no normals."""
        if self.kept.check:
            return np.zeros((0, 1, 1), np.float32)
        few = np.argsort(self.scores, kind="stable")[:16]
        found = []
        for i in few:
            with suppress(UserError):  # gone meanwhile
                found += [heat.ravel() for heat in maps_of_files(detector, self.kept, [self.shown[i].photo.file])]
        return np.concatenate(found or [np.zeros(1, np.float32)])[None, None]


def finite(value: Any) -> float:
    """A number that a browser sent.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UserError(f"review: expected a number; got {value!r}")
    number = float(value)
    if not abs(number) <= LARGEST:
        raise UserError(f"review: expected a number that a score can be compared with; got {value!r}")
    return number


def _name(file: Path, named: Sequence[Path]) -> str:
    inside = next((folder for folder in named if folder.is_dir() and file.is_relative_to(folder)), None)
    return printable(str(file if inside is None else file.relative_to(inside)))


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=88)
    return buffer.getvalue()
