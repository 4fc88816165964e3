"""A few real defects that a person has at hand: what a detector finds of them, and a threshold that finds them all.

They train nothing unless they are asked to. Scores of defects that the detector was trained with promise nothing, so
then there is no such threshold. Its promise, for n defects of one kind drawn as the next one is: that lies below the
lowest of them with a chance of at most 1 / (n + 1) (as `kka.deploy.calibrate`). Held-out normals say what it costs.
"""

import dataclasses
import math
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from kka.common.cache import pixel_hash
from kka.common.images import decode_all, first_few
from kka.common.mapped import joined
from kka.common.masks import read_mask
from kka.common.metrics import anomalous
from kka.common.numbers import DIVERGED, require_finite
from kka.common.photos import PhotoFiles
from kka.common.walk import printable
from kka.data.layout import read_layout
from kka.deploy.anomalies import Anomalies
from kka.deploy.calibrate import Calibration
from kka.deploy.defect_tiles import tiles_of_photos
from kka.errors import UserError
from kka.protocols import Images, Masks, Photos, Pictures
from kka.settings.fit import Fit
from kka.task import SetAside, Task

FEW = 5
"""Defects from which on there is a threshold of theirs: fewer promise less than five of six."""
MARGIN = 1e-3
"""How far, of the scores' size, their threshold lies below the lowest of them: a score differs by so much less from
one way of working it out to another (alone or in a batch, on a GPU, exported)."""
SURE = 0.95
"""Of the largest false-positive rate that is told with it."""


@dataclass(frozen=True, kw_only=True)
class Defects:
    """Photos of defects, none of them in the test set."""

    images: Images
    masks: Masks
    masked: np.ndarray
    """(m,) bool: of which the mask is known."""
    kinds: tuple[str, ...]
    """By the folder that each lies in."""
    set_aside: tuple[SetAside, ...] = ()
    photos: PhotoFiles | None = None
    """Where photos are cut into tiles: they, which are scored. `images` and `masks` are small views of them."""

    @property
    def pictures(self) -> Pictures:
        """What is scored."""
        return self.images if self.photos is None else self.photos

    def joined(self, others: Anomalies | None, *, by_masks: bool) -> tuple[Anomalies, int]:
        """The anomalies and these together, and how many of these there are.

        Args:
            by_masks: The detector learns from where anomalies are: where that is known of `others`, those of these of
                which it is not known are left out.
        """
        if self.photos is not None:
            return self._tiles(self.photos).joined(others, by_masks=by_masks)
        keep = np.ones(len(self.images), bool)
        if others is None:
            return Anomalies(images=self.images, masks=self.masks if self.masked.all() else None), len(keep)
        if by_masks and others.masks is not None:
            keep = self.masked
        known = others.masks is not None and self.masked[keep].all()
        return Anomalies(
            images=joined(others.images, self.images[keep]),
            hard=None if others.hard is None else np.concatenate([others.hard, np.zeros(int(keep.sum()), bool)]),
            masks=joined(others.masks, self.masks[keep]) if known and others.masks is not None else None,
            set_aside=others.set_aside,
        ), int(keep.sum())  # fmt: skip


    def apart_from(self, anomalies: Anomalies) -> "Defects | None":
        """Those that are not, pixel for pixel, one of `anomalies`: of what a detector was trained with it says nothing
        that it catches it. None where none is left."""
        known = {*anomalies.digests, *map(pixel_hash, anomalies.images)}
        keep = np.array([pixel_hash(image) not in known for image in self.images], bool)
        if keep.all():
            return self
        said = f"{int((~keep).sum())} of {len(keep)} defects are among the anomalies that are trained with"
        warnings.warn(f"{said}; they are left out", stacklevel=3)
        photos = None
        if self.photos is not None:
            files = tuple(file for file, kept in zip(self.photos.files, keep, strict=True) if kept)
            photos = replace(self.photos, files=files)
        kinds = tuple(kind for kind, kept in zip(self.kinds, keep, strict=True) if kept)
        found = replace(
            self, images=self.images[keep], masks=self.masks[keep], masked=self.masked[keep], kinds=kinds, photos=photos
        )
        return found if keep.any() else None

    def _tiles(self, photos: PhotoFiles) -> "Defects":
        """The tiles that show what is marked, to learn from."""
        cut = tiles_of_photos(photos, where="--defects")
        masks = np.zeros(cut.images.shape[:3], np.uint8) if cut.masks is None else cut.masks
        return replace(
            self, images=cut.images, masks=masks, masked=np.full(len(masks), cut.masks is not None), photos=None
        )  # fmt: skip


def read_defects(folder: Path, task: Task, anomalies: Anomalies | None = None) -> Defects:
    """The photos of defects in a folder, of any layout, at the size of the task's and as those became squares.

    One that is pixel for pixel a test picture, a normal, one of the anomalies that are trained with, or another of them
    is set aside by name.

    Raises:
        UserError: none there, or none left.
    """
    if not folder.expanduser().is_dir():
        raise UserError(f"--defects: expected a folder of photos of defects; got {folder}, which is none")
    layout = read_layout(folder.expanduser(), source=str(folder))
    paths, side = list(layout.places), task.normals.shape[1]
    decoded = decode_all(
        ((path, layout.files[path]) for path in paths), len(paths), side, where=str(folder), white=task.white,
        fit=task.fit,
    )  # fmt: skip
    trained = () if anomalies is None else anomalies.digests or map(pixel_hash, anomalies.images)
    known = dict.fromkeys(trained, "one of the anomalies that are trained with")
    known |= dict.fromkeys(_digests(task.normals, task.photos), "one of the normals")
    if task.test is not None:
        known |= dict.fromkeys(_digests(task.test.images, task.test.photos), "a picture of the test set")
    aside, keep = [*layout.set_aside, *decoded.set_aside], []
    for row, (position, digest) in enumerate(zip(decoded.kept, decoded.digests, strict=True)):
        name = printable(paths[position])
        if digest in known:
            aside.append(SetAside(path=name, reason=f"the same picture as {known[digest]}: it is not used as a defect"))
        else:
            known[digest] = f"the defect {name}"
            keep.append(row)
    if not keep:
        raise UserError(f"--defects: expected a photo that is in neither training nor test; got none in {folder}: "
                        f"{first_few(tuple(aside))}")  # fmt: skip
    chosen = [paths[position] for position in decoded.kept[keep]]
    masks, masked = np.zeros((len(keep), side, side), np.uint8), np.zeros(len(keep), bool)
    for i, path in enumerate(chosen):
        if path in layout.masks:
            fit: Fit = "squash" if task.fit == "tile" else task.fit
            found = read_mask(layout.mask_files(path), layout.files[path], side, fit)
            masked[i] = found is not None
            masks[i] = 0 if found is None else 255 * found.astype(np.uint8)
    kinds = tuple(layout.places[path].folders[-1] if layout.places[path].folders else "defects" for path in chosen)
    photos = None
    if task.photos is not None:
        files = {layout.files[path]: layout.mask_files(path) for path in chosen}
        photos = PhotoFiles(
            files=tuple(files), side=side, white=task.white, overlap=task.photos.overlap, masks=files
        )  # fmt: skip
    return Defects(
        images=decoded.images[keep], masks=masks, masked=masked, kinds=kinds, set_aside=tuple(aside), photos=photos
    )  # fmt: skip


def _digests(images: Images, photos: Photos | None) -> Iterable[str]:
    """Of the pictures, or of the photos that they are tiles or views of."""
    return map(pixel_hash, images) if photos is None else photos.digests


@dataclass(frozen=True, kw_only=True)
class Caught:
    """What a detector finds of the defects at hand: "defects" in its card."""

    defects: int
    caught: int
    """Above the threshold that the normals set."""
    kinds: dict[str, list[int]] = field(default_factory=dict)
    """Kind -> so many caught, of so many."""
    trained_with: int = 0
    """Of them the detector was trained with so many: what it finds of those is no promise."""
    lowest: float
    """The lowest of their scores."""
    threshold: float | None = None
    """The highest that is below all of their scores; None: they are fewer than `FEW`, or were trained with."""
    recall: float | None = None
    """It promises to find the next one with at least this chance."""
    fpr: float | None = None
    """Share of the held-out normals above it; and with `SURE` certainty no more than `fpr_most` of all normals are."""
    fpr_most: float | None = None

    def __post_init__(self) -> None:
        """Raises UserError for figures that are none."""
        for name in ("lowest", "threshold", "recall", "fpr", "fpr_most"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
                raise UserError(f"defects: expected {name} to be a number; got {value!r}")

    def sentences(self, calibration: Calibration) -> list[str]:
        """In words."""
        said = [f"The threshold catches all {self.defects} defects at hand"]
        if self.caught < self.defects:
            said = [f"Of {self.defects} defects at hand the threshold catches {self.caught}; one just below "
                    f"{self.lowest:.6g} would have caught all"]  # fmt: skip
        missed = [f"{kind} {found} of {number}" for kind, (found, number) in self.kinds.items() if found < number]
        if missed and len(self.kinds) > 1:
            said[0] += f" (by kind: {', '.join(missed)})"
        if self.trained_with:
            said.append(f"The detector was trained with {self.trained_with} of them: that it finds those promises "
                        "nothing of others, so there is no threshold of theirs")  # fmt: skip
        elif self.threshold is None:
            said.append(f"{self.defects} are too few for a threshold of theirs, which needs {FEW}")
        elif self.fpr is not None and self.fpr_most is not None and self.recall is not None:
            said.append(
                f"A second threshold, {self.threshold:.6g}, catches them all, and the next one of their kind with a "
                f"chance of at least {100 * self.recall:.0f} %; {100 * self.fpr:.1f} % of {calibration.held_out} "
                f"held-out normals lie above it (at most {100 * self.fpr_most:.0f} % of all, {100 * SURE:.0f} % sure): "
                "kka score --threshold defects"
            )
        return said


def catch(
    scores: Float[np.ndarray, "m"], kinds: Collection[str], held_out: Float[np.ndarray, "n"],
    calibration: Calibration, *, trained_with: int = 0,
) -> Caught:  # fmt: skip
    """What the threshold of the normals catches of defects of these scores, and the second threshold.

    Args:
        held_out: Scores of the normals that set the first one. Nothing of the test set enters.
    """
    from scipy.stats import beta

    require_finite(scores, "the scores of the defects at hand", DIVERGED)
    scores = np.asarray(scores, np.float32)
    above = anomalous(scores, calibration.threshold)
    counts: dict[str, list[int]] = {}
    for kind, found in zip(kinds, above.tolist(), strict=True):
        one = counts.setdefault(kind, [0, 0])
        one[0] += found
        one[1] += 1
    whole = Caught(
        defects=len(scores), caught=int(above.sum()), kinds=counts, trained_with=trained_with,
        lowest=float(scores.min()),
    )  # fmt: skip
    if trained_with or len(scores) < FEW:
        return whole
    room = MARGIN * max(abs(float(scores.min())), float(np.abs(scores).mean()))
    threshold = float(np.nextafter(np.float32(scores.min() - room), np.float32(-np.inf)))
    wrong, n = int(anomalous(np.asarray(held_out, np.float32), threshold).sum()), len(held_out)
    most = 1.0 if wrong == n else float(beta.ppf(SURE, wrong + 1, n - wrong))
    return dataclasses.replace(
        whole, threshold=threshold, recall=len(scores) / (len(scores) + 1), fpr=wrong / n, fpr_most=most
    )
