"""Which pictures are masks of others: by the folder they lie in, or by their name, size and content together.

A picture in `ground_truth/` is a mask, and in a folder such as `mask/` if the first ones look so. So is a nearly binary
one of the same size as a photo whose name it has, with `_mask` or the like added (`a.png`, `a_mask.png`), another
suffix (`a.jpg`, `a.png`), or in a folder beside that is called so (`images/a.png`, `labels/a.png`). Photos may be
nearly binary too, as of dust on black: equal names in two folders alone make no mask. Only pictures whose names ask
for it are opened, and of a folder no more than the first where that is none.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from kka.common.folder_words import role_of
from kka.common.pixels import square
from kka.common.tiles import map_size
from kka.settings.fit import Fit

_WORDS = r"ground[ _.-]?truth|gt|masks?|maske|seg|segmentation|labels?|labelmap|annotation|anno|msk"
_ADDED = re.compile(
    rf"(?P<before>.+?)[ _.-](?:{_WORDS})(?:[ _.-]?\d+)?|(?:{_WORDS})[ _.-](?P<after>.+)", re.IGNORECASE
)
"""A photo's name with what makes it that of a mask."""
_CALLED = re.compile(rf"(?:.*[ _.-])?(?:{_WORDS})(?:[ _.-].*)?", re.IGNORECASE)
"""A folder that may hold masks."""
_SURE = re.compile(r"mask|maske|msk|gt|ground", re.IGNORECASE)
"""Words that are no others: a "label" may be what a bottle has, and its photo called so."""
FEW_LEVELS = 8
"""Grey levels of a label map, at most."""
NEAR, ALMOST_ALL = 0.1, 0.97
"""Else, so much of the pixels lies within this part of the range from the darkest or the brightest."""
MAX_PIXELS = 100_000_000
SAMPLED = 3
"""Pictures of a folder that are opened to see whether it may be one of masks."""


@dataclass(frozen=True, kw_only=True)
class Masks:
    """The images of a folder, apart: the photos, and the masks."""

    photos: tuple[str, ...]
    of: dict[str, str | None]
    """Mask -> the photo that it was recognised by; None for those in a folder of masks."""
    unlike: tuple[str, ...]
    """Photos that have the name of a mask and do not look like one."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What tells a mask from a photo."""

    size: tuple[int, int]
    """The shorter and the longer side, as cameras turn photos and not masks."""
    few: bool
    """Of few grey levels."""
    binary: bool
    """Nearly: of few grey levels, or of two and what lies between at their edges."""
    plain: bool
    """Of one colour: as a mask, it marks nothing."""


def find_masks(images: Mapping[str, Path], keep: Collection[str] = ()) -> Masks:
    """Which of the images, by their paths with "/", are masks. `keep`: folders that are none, whatever their name."""
    of: dict[str, str | None] = {}
    unlike: set[str] = set()
    for paths in _in_mask_folders(images, keep).values():
        looks = [look_at(images[path]) for path in paths[:SAMPLED]]
        named = re.search(r"ground.?truth", paths[0], re.IGNORECASE)  # while a person may wear a "mask"
        if named or any(look is None or look.binary for look in looks):  # what cannot be read is as its folder says
            of |= dict.fromkeys(paths)
        else:
            unlike.update(paths)
    rest = [path for path in images if path not in of]
    for path, photo, added in _named_alike(rest):
        if photo in of:
            continue
        sure = added and _SURE.search(stem_of(path).removeprefix(stem_of(photo))) is not None
        if _is_mask_of(images[path], images[photo], sure=sure, few=not added):
            of.setdefault(path, photo)
        elif added:
            unlike.add(path)
    rest = [path for path in rest if path not in of]
    for pairs in _in_folders_beside(rest, images):
        found = {path: photo for path, photo in pairs if _is_mask_of(images[path], images[photo])}
        if pairs and 2 * len(found) > len(pairs):
            unlike.update(path for path, _ in pairs if path not in found)
        of |= found
    return Masks(
        photos=tuple(path for path in images if path not in of),
        of=of,
        unlike=tuple(path for path in images if path in unlike and path not in of),
    )


def _in_mask_folders(images: Collection[str], keep: Collection[str]) -> dict[str, list[str]]:
    """Folder -> the pictures in it, of folders that are called, or lie in one that is called, one of masks."""
    kept = {name.casefold() for name in keep}
    found: dict[str, list[str]] = defaultdict(list)
    for path in images:
        if any(role_of(part).label == "mask" and part.casefold() not in kept for part in path.split("/")[:-1]):
            found[_folder(path)].append(path)
    return found


def stem_of_photo(stem: str) -> str:
    """The name of the photo that a mask of this name belongs to, both without suffix."""
    match = _ADDED.fullmatch(stem)
    return stem if match is None else match["before"] or match["after"]


TURNED = {
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""EXIF orientations that swap width and height -> what brings the stored picture into the shown one."""
SAME_SHAPE = 0.02
"""Largest relative difference of a mask's proportions from its photo's."""


def read_mask(files: Sequence[Path], photo: Path, size: int, fit: Fit) -> Bool[np.ndarray, "h w"] | None:
    """What the masks of a photo mark, together, at (size, size) by the fit of the photo; where it is cut into tiles,
    as `kka.common.tiles.map_size` makes it with sides of at most `size`.

    A pixel is marked where half of it is; where that leaves nothing of a mask, its most marked pixels are. A mask drawn
    on what the camera stored is turned as the photo is. None: it cannot be read, or has another shape than the photo.
    """
    try:
        with Image.open(photo) as opened:
            stored, orientation = opened.size, opened.getexif().get(0x0112, 1)
        shown = stored[::-1] if orientation in TURNED else stored
        target = map_size(shown, size) if fit == "tile" else (size, size)
        whole = np.zeros(target[::-1], bool)
        for file in files:
            mask = _marked(file)
            if orientation in TURNED and mask.size == stored != shown:
                mask = mask.transpose(TURNED[orientation])
            width, height = mask.size
            if abs(width * shown[1] / (height * shown[0]) - 1) > SAME_SHAPE:
                return None
            box = Image.Resampling.BOX
            share = np.asarray(mask.resize(target, box) if fit == "tile" else square(mask, size, fit, box))
            marked = share >= 128
            whole |= marked if marked.any() or not share.any() else share == share.max()
    except Exception:  # decoders fail in many ways on damaged files: all mean that it cannot be read
        return None
    return whole


def _marked(file: Path) -> Image.Image:
    """255 where a mask marks something: all but black of few grey levels, else what is brighter than half."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(file) as image:
            values = np.asarray(image if image.mode.startswith(("I", "F")) else image.convert("L"))
    levels, _ = _levels(values)
    least = 0.0 if len(levels) <= FEW_LEVELS else float(levels[-1]) / 2
    return Image.fromarray(np.where(values > least, 255, 0).astype(np.uint8))


def look_at(file: Path) -> Look | None:
    """What a picture looks like; None where it cannot be read, or is very large."""
    try:
        return _look_at(file, file.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=10_000)
def _look_at(file: Path, _changed: int) -> Look | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    return None
                grey = image if image.mode.startswith(("I", "F")) else image.convert("L")
                values = np.asarray(grey)
    except Exception:  # decoders fail in many ways on damaged files; the decoding of photos names them
        return None
    levels, counts = _levels(values)
    low, high = float(levels[0]), float(levels[-1])
    margin = NEAR * (high - low)
    ends = counts[(levels <= low + margin) | (levels >= high - margin)].sum() / counts.sum()
    return Look(
        size=(min(width, height), max(width, height)),
        few=len(levels) <= FEW_LEVELS,
        binary=bool(len(levels) <= FEW_LEVELS or ends >= ALMOST_ALL),
        plain=len(levels) == 1,
    )


def _levels(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The grey levels that occur, ascending, and how often each does."""
    if values.dtype != np.uint8:
        return np.unique(values, return_counts=True)
    counts = np.bincount(values.ravel(), minlength=256)
    levels = np.flatnonzero(counts)
    return levels, counts[levels]


def _is_mask_of(file: Path, photo: Path, *, sure: bool = False, few: bool = False) -> bool:
    """Whether `file` looks like a mask of `photo`; unless `sure` which of the two is one, the photo must not do so.

    Args:
        few: Ask for few grey levels: the names say nothing, and a cut-out on white is nearly binary as well.
    """
    mask = look_at(file)
    if mask is None or not (mask.few if few else mask.binary):
        return False
    other = look_at(photo)
    return other is not None and other.size == mask.size and (sure or not other.binary)


def _named_alike(paths: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """(what may be a mask, its photo, whether `_mask` or the like was added to its name) within one folder."""
    by_name: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in paths:
        by_name[_folder(path), stem_of(path)].append(path)
    for path in paths:
        stem = stem_of(path)
        if (base := stem_of_photo(stem)) != stem:
            yield from ((path, photo, True) for photo in by_name.get((_folder(path), base), ()))
    for same in by_name.values():
        yield from ((path, photo, False) for path in same for photo in same if photo != path)


def _in_folders_beside(paths: Sequence[str], images: Mapping[str, Path]) -> Iterator[list[tuple[str, str]]]:
    """For two folders that differ in one part, or of which one lies in the other: (what may be a mask, its photo).

    Only of folders of which one of the first pictures is nearly binary.
    """
    inside: dict[str, dict[str, str]] = defaultdict(dict)
    places: dict[str, set[str]] = defaultdict(set)
    related: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in paths:
        inside[_folder(path)][stem_of(path)] = path
        places[stem_of(path)].add(_folder(path))
    for folder in inside:
        for variant in _variants(folder):
            related[variant].append(folder)
    for folder, own in inside.items():
        shared = (
            path
            for stem, path in own.items()
            if len(places[stem]) > 1 or ((base := stem_of_photo(stem)) != stem and base in places)
        )
        looks = [look_at(images[path]) for path in islice(shared, SAMPLED)]
        if not any(look is not None and look.binary for look in looks):
            continue
        for other in dict.fromkeys(o for v in _variants(folder) for o in related[v] if o != folder):
            names = inside[other]
            bases = {path: stem if stem in names else stem_of_photo(stem) for stem, path in own.items()}
            called = any(_CALLED.fullmatch(part) for part in {*folder.split("/")} - {*other.split("/")})
            pairs = [(path, base) for path, base in bases.items() if base in names]
            yield [(path, names[base]) for path, base in pairs if called or base != stem_of(path)]


def _variants(folder: str) -> Iterator[tuple[str, ...]]:
    """Keys that folders share which differ in one part, or of which one has one part more."""
    parts = tuple(folder.split("/")) if folder else ()
    yield parts
    for i in range(len(parts)):
        yield (*parts[:i], *parts[i + 1 :])
        yield (*parts[:i], "*", *parts[i + 1 :])


def stem_of(path: str) -> str:
    """Of a path with "/"; as `PurePath.stem`, which takes ten times as long."""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
