"""Image files scored by a kept detector: a row a file, and overlays that show where."""

import csv
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from kka.common.files import replacing
from kka.common.images import Picture, clipped_reason, read_picture
from kka.common.metrics import anomalous
from kka.common.numbers import DAMAGED, require_finite
from kka.common.opened import ImageError, read_whole
from kka.common.progress import Progress
from kka.common.tiles import map_size
from kka.common.walk import printable
from kka.common.writable import is_stream
from kka.deploy.heat import heat_limits, overlay
from kka.deploy.stored import StoredDetector
from kka.deploy.whole import maps_of, photo_map_of, photo_score_of
from kka.errors import UserError
from kka.protocols import Images, Localises, Scores
from kka.task import SetAside

CHUNK = 256
"""Pictures in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scored file."""

    file: Path
    score: float
    anomalous: bool | None
    """None: the detector has no threshold."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """All files: those that could be read, and those that could not."""

    rows: tuple[Row, ...]
    set_aside: tuple[SetAside, ...]
    clipped: tuple[SetAside, ...] = ()
    """Files, scored all the same, with 16-bit values beyond the range that the detector was trained on."""


def score_files(
    kept: StoredDetector, files: Sequence[Path], *, maps: Path | None = None, progress: Progress | None = None
) -> Scored:
    """Score the files, in chunks; with `maps`, write overlays into that folder, in the folders of the files.

    Raises:
        UserError: no file could be read; maps of a detector that does not localise; scores that are no numbers.
    """
    found = score_readable(kept, files, maps=maps, progress=progress)
    if not found.rows:
        bad = found.set_aside
        why = f": {bad[0].path}: {bad[0].reason}" if bad else ""
        raise UserError(f"images: none of the {len(files)} files could be read{why}")
    return found


def score_readable(
    kept: StoredDetector, files: Sequence[Path], *, maps: Path | None = None, progress: Progress | None = None
) -> Scored:
    """As `score_files`, without an error where no file could be read."""
    if maps is not None and not isinstance(kept.detector, Localises):
        raise UserError(f"maps: {kept.name} judges the image as a whole and has none; leave --maps out, or train one "
                        "that localises, such as simplenet")  # fmt: skip
    rows: list[Row] = []
    bad: list[SetAside] = []
    clipped: list[SetAside] = []
    limits: tuple[float, float] | None = None
    targets = [] if maps is None else [maps / path for path in map_paths(files)]
    size = 1 if kept.fit == "tile" else CHUNK
    for start in range(0, len(files), size):
        if progress is not None:
            progress(start, len(files))
        part = files[start : start + size]
        seen = (_look_at_photo if kept.fit == "tile" else _look_at)(part, kept, bad, clipped, mapped=maps is not None)
        if seen is None:
            continue
        named = [part[i] for i in seen.read]
        require_finite(seen.scores, f"the scores of {named[0]} and after it", DAMAGED)
        above = [None] * len(named) if kept.threshold is None else anomalous(seen.scores, kept.threshold)
        rows += [
            Row(file=file, score=float(score), anomalous=None if verdict is None else bool(verdict))
            for file, score, verdict in zip(named, seen.scores, above, strict=True)
        ]
        if maps is not None and seen.heat is not None:
            limits = limits or limits_of(kept, normal_heat(kept, seen.heat))
            write_maps([targets[start + i] for i in seen.read], seen.images, seen.heat, limits)
    if progress is not None:
        progress(len(files), len(files))
    return Scored(rows=tuple(rows), set_aside=tuple(bad), clipped=tuple(clipped))


def maps_of_files(
    detector: Localises, kept: StoredDetector, files: Sequence[Path]
) -> Iterator[Float[np.ndarray, "_h _w"]]:
    """The kept detector's maps of these files, one after the other; of squares what cannot be read is left out.

    Raises:
        UserError: a photo for tiles that cannot be read.
    """
    return maps_of(detector, kept.photos(files) if kept.fit == "tile" else read_images(files, kept))


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Pictures of a part of the files, as they are shown, with what the detector says of them."""

    read: list[int]
    """Their positions in the part; the others could not be read."""
    images: Images
    scores: Scores
    heat: Float[np.ndarray, "n h w"] | None
    """None: not asked for."""


def _look_at(
    files: Sequence[Path], kept: StoredDetector, bad: list[SetAside], clipped: list[SetAside], *, mapped: bool
) -> _Seen | None:
    images, read = _decode(files, kept, bad, clipped)
    if not read:
        return None
    detector = kept.detector
    scores = np.asarray(detector.score(images), dtype=np.float32)
    heat = detector.score_map(images) if mapped and isinstance(detector, Localises) else None
    return _Seen(read=read, images=images, scores=scores, heat=heat)


def _look_at_photo(
    files: Sequence[Path], kept: StoredDetector, bad: list[SetAside], clipped: list[SetAside], *, mapped: bool
) -> _Seen | None:
    """A single photo, whole, by its tiles; shown at the size of its map."""
    (file,) = files
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            whole = read_whole(file, kept.white)
    except ImageError as error:
        bad.append(SetAside(path=printable(str(file)), reason=str(error)))
        return None
    if whole.largest > kept.white:
        clipped.append(SetAside(path=str(file), reason=clipped_reason(kept.white)))
    detector, cut, photo = kept.detector, kept.photos(files), whole.image
    scores = np.array([photo_score_of(detector, photo, cut)], np.float32)
    heat, shown = None, np.zeros((1, 0, 0, 3), np.uint8)
    if mapped and isinstance(detector, Localises):
        heat = photo_map_of(detector, photo, cut)[None]
        shown = np.asarray(photo.resize(map_size(photo.size), Image.Resampling.BOX))[None]
    return _Seen(read=[0], images=shown, scores=scores, heat=heat)


def read_images(files: Sequence[Path], kept: StoredDetector) -> Images:
    """The files that can be read, as the detector takes them; what cannot is left out."""
    return _decode(files, kept, [], [])[0]


def _decode(
    files: Sequence[Path], kept: StoredDetector, bad: list[SetAside], clipped: list[SetAside]
) -> tuple[Images, list[int]]:
    """The readable pictures and their positions; the others go into `bad`, those beyond its range into `clipped`."""

    def one(file: Path) -> Picture | ImageError:
        try:
            return read_picture(file, kept.size, kept.white, kept.fit)
        except ImageError as error:
            return error

    images, read = [], []
    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow only warns up to twice its limit
        for i, result in enumerate(pool.map(one, files)):
            if isinstance(result, ImageError):
                bad.append(SetAside(path=printable(str(files[i])), reason=str(result)))
            else:
                images.append(result.pixels)
                read.append(i)
                if result.largest > kept.white:
                    clipped.append(SetAside(path=str(files[i]), reason=clipped_reason(kept.white)))
    return np.stack(images) if images else np.zeros((0, kept.size, kept.size, 3), np.uint8), read


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Columns file, score, anomalous (true, false, or empty without a threshold). A file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = {True: "true", False: "false", None: ""}
    with (
        nullcontext(path) if is_stream(path) else replacing(path) as part,
        part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["file", "score", "anomalous"])
        writer.writerows([str(row.file), f"{row.score:.9g}", words[row.anomalous]] for row in rows)


def normal_heat(kept: StoredDetector, heat: np.ndarray) -> np.ndarray:
    """Maps of the normals that were kept beside the detector; without them, those at hand."""
    normals = read_images(kept.check, kept)
    return kept.detector.score_map(normals) if len(normals) else heat  # type: ignore[attr-defined]


def limits_of(kept: StoredDetector, normal: Float[np.ndarray, "n h w"]) -> tuple[float, float]:
    """One scale for all maps of a detector: see `heat_limits`."""
    return heat_limits(normal, None if kept.calibration is None else kept.calibration.map_threshold)


def map_paths(files: Sequence[Path]) -> list[Path]:
    """Where the map of each file lies: below the last folder that all files lie in, with its own folders and name, so
    that a person finds it; `.png` stands for the suffix, or after it where two files differ in that alone.

    No two are the same, on file systems without large and small letters either.
    """
    inner = _below_common_folder(files)
    counts = Counter(str(path.with_suffix("")).casefold() for path in inner)
    taken: set[str] = set()
    paths = []
    for path in inner:
        alone = counts[str(path.with_suffix("")).casefold()] == 1
        name = f"{path.stem if alone else path.name}.png"
        number = 1
        while str(path.with_name(name)).casefold() in taken:
            number += 1
            name = f"{path.name}-{number}.png"
        taken.add(str(path.with_name(name)).casefold())
        paths.append(path.with_name(name))
    return paths


def _below_common_folder(files: Sequence[Path]) -> list[Path]:
    absolute = [Path(os.path.abspath(file)) for file in files]  # noqa: PTH100  # resolve() would follow links
    try:
        common = os.path.commonpath([file.parent for file in absolute])
    except ValueError:  # on several drives, or no files
        return [Path(*file.parts[1:]) for file in absolute]
    return [file.relative_to(common) for file in absolute]


def write_maps(
    targets: Sequence[Path], images: Images, heat: np.ndarray, limits: tuple[float, float]
) -> None:
    """The overlay of each image, at its path."""
    for target, image, own in zip(targets, images, heat, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, sync=False) as part:
            Image.fromarray(overlay(image, own, limits)).save(part)
