"""What lies where in a folder of images: photos, masks, captions, and what the names of the folders say of them.

Nothing is decided here: `kka.data.sides` says which photos are normal, which are the test set, or what is not clear.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from kka.common.folder_words import GOOD, Label, Split, role_of
from kka.common.images import SUFFIXES, first_few
from kka.common.masks import Masks, find_masks, look_at, stem_of, stem_of_photo
from kka.common.walk import is_image, listed, shown, walk
from kka.data.metadata import METADATA_FILES
from kka.data.split import fold
from kka.errors import UserError
from kka.task import SetAside


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the folders that a photo lies in say of it."""

    folders: tuple[str, ...]
    """Their names, from the outermost, without those that only say training or test, or that there are pictures."""
    before: tuple[str, ...] = ()
    """Those of `folders` that lie around the one that says training or test."""
    split: Split | None = None
    labels: frozenset[Label] = frozenset()
    """What the names say; two where they contradict each other."""
    kind: str = GOOD
    """The class: the folder that says normal or anomalous (of anomalies, the one in it), else the outermost."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The images of a folder by their paths below it, with "/"."""

    folder: Path
    files: dict[str, Path]
    """Of photos and masks."""
    places: dict[str, Place]
    """Of each photo."""
    masks: dict[str, tuple[str, ...]]
    """Photo -> its masks."""
    unpaired: tuple[str, ...]
    """Masks of which no photo is found, or several."""
    outer: str
    """Folders that all images lie in, as "data/", or nothing."""
    metadata: tuple[Path, ...]
    has_train: bool
    """Whether there is a folder for training, be it empty."""
    set_aside: tuple[SetAside, ...]
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def mask_paths(self) -> tuple[str, ...]:
        """All masks, sorted."""
        return tuple(sorted({*self.unpaired, *(mask for masks in self.masks.values() for mask in masks)}))

    def mask_files(self, photo: str) -> tuple[Path, ...]:
        """The masks of a photo; none where it has none."""
        return tuple(self.files[mask] for mask in self.masks.get(photo, ()))

    @property
    def photos(self) -> dict[str, Path]:
        """Path -> file of each photo."""
        return {path: self.files[path] for path in self.places}


def read_layout(folder: Path, *, source: str | None = None, normal: Collection[str] = ()) -> Layout:
    """What lies where in `folder`.

    `source`: the folder as errors name it. `normal`: folders that hold photos, even where their name is one of masks.
    Raises UserError where there is no photo.
    """
    walked = walk(folder)
    named = {shown(file, folder): file for file in walked.files}
    images = {path: file for path, file in named.items() if is_image(file)}
    metadata = tuple(file for file in walked.files if file.name in METADATA_FILES)
    others = [path for path, file in named.items() if path not in images and file.name not in METADATA_FILES]
    masks = find_masks(images, normal)
    if not masks.photos:
        seen = f"{len(images)} masks in {listed(_folders_of(images))}" if images else ""
        seen = seen or (f"{len(others)} other files: {listed(others)}" if others else "no files")
        reasons = f" Not readable: {first_few(walked.unreadable)}." if walked.unreadable else ""
        raise UserError(
            f"no images in {source or folder}: expected train.parquet and test.parquet, or images "
            f"({', '.join(sorted(SUFFIXES))}); got {seen}.{reasons}"
        )
    outer = _outer(images, normal)
    by_folder: dict[str, Place] = {}  # what the folders say is the same of all photos in one
    places: dict[str, Place] = {}
    for path in masks.photos:
        inside = path.removeprefix(outer).rpartition("/")[0]
        if inside not in by_folder:
            by_folder[inside] = _place(inside)
        places[path] = by_folder[inside]
    of, unpaired = _pairs(masks, places, outer)
    notes = []
    if others:
        notes.append(f"{len(others)} files are not read, as they are no images: {listed(others)}")
    if masks.unlike:
        notes.append(
            f"{len(masks.unlike)} pictures are named like masks, but have not the look or the size of one, and are "
            f"taken as photos: {listed(masks.unlike)}"
        )
    return Layout(
        folder=folder,
        files=images,
        places=places,
        masks=of,
        unpaired=unpaired,
        outer=outer,
        metadata=metadata,
        has_train=any(place.split == "train" for place in places.values()) or _has_train(folder / outer),
        set_aside=walked.unreadable,
        notes=tuple(notes),
    )


def marks_something(layout: Layout, path: str) -> bool:
    """Whether a mask of the photo is more than one colour throughout: it shows where something is."""
    looks = map(look_at, layout.mask_files(path))
    return any(look is not None and not look.plain for look in looks)


def _folders_of(paths: Collection[str]) -> list[str]:
    return sorted({f"{path.rpartition('/')[0]}/" for path in paths})


def _outer(images: Mapping[str, Path], normal: Collection[str]) -> str:
    """The folders that all images lie in and whose names say nothing: unpacked archives often have one."""
    parts = [path.split("/")[:-1] for path in images]
    classes = {fold(name) for name in normal}
    common: list[str] = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1 or role_of(names[0]).known or fold(names[0]) in classes:
            break
        common.append(names[0])
    return "".join(f"{name}/" for name in common)


def _has_train(folder: Path) -> bool:
    return any(role_of(inner.name).split == "train" for inner in folder.iterdir() if inner.is_dir())


def _place(folder: str) -> Place:
    names = folder.split("/") if folder else []
    roles = [role_of(name) for name in names]
    split = next((role.split for role in roles if role.split), None)
    at = next((i for i, role in enumerate(roles) if role.split), 0)
    telling = [
        (i, name, role)
        for i, (name, role) in enumerate(zip(names, roles, strict=True))
        if role.label in ("normal", "anomalous") or not (role.split or role.container)
    ]
    folders = tuple(name for _, name, _ in telling)
    place = Place(
        folders=folders,
        before=tuple(name for i, name, _ in telling if i < at),
        split=split,
        labels=frozenset(role.label for _, _, role in telling if role.label in ("normal", "anomalous")),
        kind=folders[0] if folders else GOOD,
    )
    for position, (_, name, role) in enumerate(telling):
        if role.label in ("normal", "anomalous"):
            inner = folders[position + 1 : position + 2] if role.label == "anomalous" and not role.defect else ()
            return replace(place, kind=next(iter(inner), name))
    return place


def _pairs(
    found: Masks, places: Mapping[str, Place], outer: str
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Photo -> its masks, and the masks without a photo of their own."""
    by_stem: dict[str, list[str]] = {}
    for path in places:
        by_stem.setdefault(_stem(path), []).append(path)
    of: dict[str, list[str]] = {}
    unpaired = []
    for mask, photo in found.of.items():
        photo = photo or _photo_of(mask.removeprefix(outer), by_stem, places)
        if photo is None:
            unpaired.append(mask)
        else:
            of.setdefault(photo, []).append(mask)
    return {photo: tuple(masks) for photo, masks in of.items()}, tuple(unpaired)


def _photo_of(mask: str, by_stem: Mapping[str, list[str]], places: Mapping[str, Place]) -> str | None:
    """The photo of a mask in a folder of masks: of its name, in folders called alike; None where that is not one.

    ground_truth/scratch/000_mask.png is of test/scratch/000.png; so is ground_truth/scratch/000/0.png.
    """
    *folders, _ = mask.split("/")
    inner = [name for name in folders if not _says_place(name)]
    split = next((role.split for role in map(role_of, folders) if role.split), None)
    stem = _stem(mask)
    tries = [(inner, stem), (inner, stem_of_photo(stem))]
    if inner:
        tries.append((inner[:-1], inner[-1]))
    for wanted, name in tries:
        named = [path for path in by_stem.get(name, ()) if split in (None, places[path].split)]
        exact = [path for path in named if list(places[path].folders) == wanted]
        near = [path for path in named if {*wanted} <= {*places[path].folders}]
        tested = [path for path in exact if places[path].split == "test"]
        anomalous = [path for path in near if "anomalous" in places[path].labels]
        for candidates in (exact, tested, near, anomalous):
            if len(candidates) == 1:
                return candidates[0]
    return None


def _says_place(name: str) -> bool:
    role = role_of(name)
    return role.label == "mask" or role.container or (role.split is not None and role.label is None)


def _stem(path: str) -> str:
    return stem_of(path)
