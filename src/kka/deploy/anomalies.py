"""The anomalies that a detector trains with: a run's pool, or a folder of images."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from kka.algorithm.folder import POOL, RunFolder
from kka.algorithm.pool import AnomalyPool
from kka.algorithm.reviews import REVIEWS, read_reviews
from kka.common.begun import is_begun, read_config
from kka.common.disk import reading
from kka.common.files import image_files
from kka.common.images import clipped_reason, decode_all, first_few, fitted
from kka.common.mapped import empty, taken
from kka.common.pixels import WHITE
from kka.common.walk import printable
from kka.data.layout import read_layout
from kka.deploy.defect_tiles import tiles_of_defects
from kka.detectors import fit_detector
from kka.errors import UserError
from kka.protocols import Detector, Images, Masks
from kka.settings.fit import Fit
from kka.task import SetAside

SOME = 64
"""Pixels by which a picture is first compared."""


@dataclass(frozen=True, kw_only=True)
class Anomalies:
    """What a detector trains with besides the normals."""

    images: Images
    hard: np.ndarray | None = None
    """(m,) bool (Eq. 6); None: not known."""
    masks: Masks | None = None
    """(m, h, w): where each is anomalous; None: not known."""
    set_aside: tuple[SetAside, ...] = ()
    digests: tuple[str, ...] = ()
    """Of tiles: of the whole photo that each was cut from. Empty: they are whole, or it is not known."""

    @classmethod
    def of_pool(cls, pool: AnomalyPool, hard: np.ndarray | None) -> "Anomalies":
        """The pictures and masks of a pool, with what is known of hardness."""
        return cls(images=pool.images, hard=hard, masks=pool.masks)

    def only(self, keep: np.ndarray) -> "Anomalies":
        """Those where `keep` (m,) is true."""
        hard = None if self.hard is None else self.hard[keep]
        masks = None if self.masks is None else taken(self.masks, keep)
        digests = tuple(digest for digest, kept in zip(self.digests, keep, strict=True) if kept) if self.digests else ()
        return replace(self, images=taken(self.images, keep), hard=hard, masks=masks, digests=digests)


def fit_anomalies(
    detector: Detector, normals: Images, anomalies: Anomalies | None, *, captions: Sequence[str]
) -> Detector:
    """Train the detector with all that it takes of the anomalies."""
    if anomalies is None:
        return fit_detector(detector, normals, captions=captions)
    return fit_detector(
        detector, normals, anomalies.images, captions=captions, hard=anomalies.hard, masks=anomalies.masks
    )


def anomaly_size(source: Path) -> int | None:
    """The side of a pool's pictures; None for a folder of images, which have any size.

    Raises:
        UserError: neither is there.
    """
    file = _pool_file(source)
    if file is None:
        if not source.is_dir():
            raise UserError(
                f"anomalies: expected the directory of a kka run, its pool.parquet, or a folder of images; got "
                f"{source}, which {'is another file' if source.exists() else 'does not exist'}"
            )
        if RunFolder(source).begun:
            raise UserError(f"anomalies: {source} is a run without a pool yet; end it: kka run --out {source} --resume")
        return None
    import pyarrow.parquet as pq

    with reading(file):
        size = (pq.read_schema(file).metadata or {}).get(b"size")
    if size is None:
        raise UserError(f"anomalies: expected the pool of a kka run; {file} is another kind of Parquet file")
    return int(size.decode().partition("x")[0])


def has_masks(source: Path, fit: Fit | None = None) -> bool:
    """Whether it says where its pictures are anomalous: a pool by its masks; a folder by its own, which tiles need."""
    file = _pool_file(source)
    if file is None:
        return fit == "tile" and source.is_dir() and bool(read_layout(source).masks)
    import pyarrow.parquet as pq

    with reading(file):
        return "mask" in pq.read_schema(file).names


def read_anomalies(source: Path, size: int, white: int = WHITE, fit: Fit = "crop") -> Anomalies:
    """The pool of a run directory (without what a person vetoed) or file, or the images of a folder, at `size` pixels
    a side.

    `white`: of 16-bit grey, and `fit`: how photos become squares; both the normals'. A warning names
    files with values beyond its white. With tiles, masks in the folder say which of them are anomalous
    (`kka.deploy.defect_tiles`).

    Raises:
        UserError: nothing of the kind there, or no picture in it.
    """
    if anomaly_size(source) is not None:
        pool = AnomalyPool.load(_pool_file(source) or source)
        if source.is_dir():
            pool = read_reviews(source / REVIEWS).without_vetoed(pool)
        judged = all(entry.history for entry in pool.entries)
        found = Anomalies.of_pool(_sized(pool, size), pool.hard if judged else None)
        _warn_of_another_scale(source, fit)
    elif fit == "tile":
        cut = tiles_of_defects(source, size, white)
        found = Anomalies(images=cut.images, masks=cut.masks, set_aside=cut.set_aside, digests=cut.digests)
    else:
        files = image_files([source])
        sources = [(printable(str(file)), file) for file in files]
        decoded = decode_all(sources, len(files), size, where=str(source), white=white, fit=fit)
        if decoded.clipped:
            beyond = tuple(SetAside(path=name, reason=clipped_reason(white)) for name in decoded.clipped)
            warnings.warn(f"anomalies: {first_few(beyond)}", stacklevel=2)
        found = Anomalies(images=decoded.images, set_aside=decoded.set_aside)
    if not len(found.images):
        raise UserError(f"anomalies: expected at least one image in {source}; got none. Leave it out to train without.")
    return found


def read_traces(run: Path, size: int) -> AnomalyPool:
    """The pictures that a run's image model drew without an anomaly (`kka.run.traced`), at `size` pixels a side.

    Raises:
        UserError: not the directory of a run, or of one whose model leaves no traces.
    """
    made = RunFolder(run)
    if not made.has_traces:
        raise UserError(
            f"match-traces: expected the directory of a run whose image model leaves traces, as those of diffusers do; "
            f"got {run}, which has none. Leave it out."
        )
    return _sized(made.traces(), size)


def _warn_of_another_scale(source: Path, fit: Fit) -> None:
    """Where a run made whole photos of working size, and the detector sees tiles, or the other way round."""
    if not is_begun(source):
        return
    made = read_config(source).get("fit")
    if (made == "tile") != (fit == "tile"):
        warnings.warn(
            f"anomalies: {source} was made {'with' if made == 'tile' else 'without'} --fit tile, and the normals are "
            f"read with --fit {fit}: the detector learns defects at another scale than it meets. Better: --fit alike",
            stacklevel=3,
        )


def _pool_file(source: Path) -> Path | None:
    file = source / POOL if source.is_dir() else source
    return file if file.suffix == ".parquet" and file.is_file() else None


def altered_copies(anomalies: Anomalies, normals: Images) -> np.ndarray:
    """(m,) bool: which anomalies are one of these normals but for what their masks mark."""
    found = np.zeros(len(anomalies.images), bool)
    if anomalies.masks is None or normals.shape[1:] != anomalies.images.shape[1:]:
        return found
    for i, (image, mask) in enumerate(zip(anomalies.images, anomalies.masks, strict=True)):
        rows, columns = np.nonzero(mask == 0)
        some = np.linspace(0, len(rows) - 1, min(SOME, len(rows))).round().astype(int)  # before all pixels are compared
        near = np.flatnonzero((normals[:, rows[some], columns[some]] == image[rows[some], columns[some]]).all((1, 2)))
        kept = mask == 0
        found[i] = bool(len(rows)) and any(np.array_equal(normals[j][kept], image[kept]) for j in near)
    return found


def _sized(pool: AnomalyPool, size: int) -> AnomalyPool:
    if not len(pool) or pool.images.shape[1:3] == (size, size):
        return pool
    masks = None if pool.masks is None else _at(pool.masks, size)
    return AnomalyPool(pool.entries, _at(pool.images, size), masks)


def _at(pictures: np.ndarray, size: int) -> np.ndarray:
    """Pictures or masks as squares of `size` pixels a side."""
    found = empty((len(pictures), size, size, *pictures.shape[3:]))
    for i, picture in enumerate(pictures):
        found[i] = np.asarray(fitted(Image.fromarray(picture), size, size))
    return found
