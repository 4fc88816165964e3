"""What a data set holds, picture by picture: counts, classes, sizes, captions, duplicates, and a few samples.

Of Parquet folders, and of folders of images as `kka.data.sides` sorts them. Every picture is decoded once; only the
samples stay in memory.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kka.common.cache import pixel_hash
from kka.common.files import sha256
from kka.common.folder_words import GOOD
from kka.common.images import decode
from kka.common.json_text import parse_json
from kka.common.opened import ImageError
from kka.common.progress import Progress
from kka.common.walk import printable
from kka.data.layout import Layout, read_layout
from kka.data.metadata import captions_in, read_captions
from kka.data.sides import Sides, choose_sides
from kka.errors import UserError
from kka.task import SetAside

SAMPLE_CLASSES, SAMPLES_EACH = 12, 6
SAMPLE_SIDE = 128
"""Pixels: larger samples are reduced to this."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture to show."""

    kind: str
    caption: str
    pixels: np.ndarray


@dataclass(kw_only=True)
class Part:
    """The facts of one side: training, test, or all photos of a flat folder."""

    images: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(width, height) -> pictures."""
    captions: Counter[int] = field(default_factory=Counter)
    """Captions of an image -> images with so many."""
    shortest: str | None = None
    longest: str | None = None


@dataclass(frozen=True, kw_only=True)
class Description:
    """What `describe` found."""

    folder: Path
    form: str
    """"Parquet" or "images"."""
    parts: dict[str, Part]
    duplicates: tuple[tuple[str, ...], ...]
    """Groups of pictures with equal pixels: their paths, of Parquet part/name."""
    across: int
    """Groups of equal pictures that lie in more than one part: they would leak from training into the test."""
    samples: tuple[Sample, ...]
    set_aside: tuple[SetAside, ...]
    origin: dict[str, Any] | None
    """dataset.json of a folder that `kka data prepare` wrote."""
    changed: tuple[str, ...]
    """Files that are no longer as dataset.json says."""
    notes: tuple[str, ...] = ()
    """What `kka run` would take as what, and what it would not use; of folders of images."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture of a source, not yet decoded."""

    part: str
    name: str
    """As people find it: the path, or part/name."""
    kind: str
    captions: tuple[str, ...]
    content: bytes | Path


def describe(folder: Path, progress: Progress | None = None) -> Description:
    """The facts of the data set in `folder`. Raises UserError where there is none."""
    if not folder.is_dir():
        raise UserError(f"describe: expected a folder with train.parquet, or a folder of images; {folder} is none")
    parquet = [name for name in ("train", "test") if (folder / f"{name}.parquet").is_file()]
    notes: tuple[str, ...] = ()
    if parquet:
        total, items, problems = _from_parquet(folder, parquet)
    else:
        total, items, problems, notes = _from_images(folder)
    parts: dict[str, Part] = defaultdict(Part)
    groups: dict[str, list[Item]] = defaultdict(list)
    samples: list[Sample] = []
    set_aside = list(problems)
    shown: Counter[str] = Counter()
    for done, item in enumerate(items, start=1):
        if progress is not None and (done % 64 == 0 or done == total):
            progress(done, total)
        try:
            pixels = decode(item.content)
        except ImageError as error:
            set_aside.append(SetAside(path=item.name, reason=str(error)))
            continue
        _count(parts[item.part], item, (pixels.shape[1], pixels.shape[0]))
        groups[pixel_hash(pixels)].append(dataclasses.replace(item, content=b""))
        if shown[item.kind] < SAMPLES_EACH:
            shown[item.kind] += 1
            samples.append(Sample(kind=item.kind, caption=next(iter(item.captions), ""), pixels=_small(pixels)))
    if not parts:
        raise UserError(f"describe: no picture in {folder} can be read; {len(set_aside)} were set aside")
    origin, changed = _origin(folder)
    equal = [group for group in groups.values() if len(group) > 1]
    return Description(
        folder=folder,
        form="Parquet" if parquet else "images",
        parts=dict(parts),
        duplicates=tuple(tuple(item.name for item in group) for group in equal),
        across=sum(len({item.part for item in group}) > 1 for group in equal),
        samples=_choose(samples),
        set_aside=tuple(set_aside),
        origin=origin,
        changed=changed,
        notes=notes,
    )


def _count(part: Part, item: Item, size: tuple[int, int]) -> None:
    part.images += 1
    part.classes[item.kind] += 1
    part.sizes[size] += 1
    part.captions[len(item.captions)] += 1
    for caption in item.captions:
        if part.shortest is None or len(caption) < len(part.shortest):
            part.shortest = caption
        if part.longest is None or len(caption) > len(part.longest):
            part.longest = caption


def _small(pixels: np.ndarray) -> np.ndarray:
    if max(pixels.shape[:2]) <= SAMPLE_SIDE:
        return pixels
    image = Image.fromarray(pixels)
    image.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE))
    return np.asarray(image)


def _choose(samples: list[Sample]) -> tuple[Sample, ...]:
    """The samples of a few classes, spread evenly over all of them."""
    kinds = sorted({sample.kind for sample in samples})
    step = max(1, len(kinds) / SAMPLE_CLASSES)
    chosen = [kinds[int(i * step)] for i in range(min(SAMPLE_CLASSES, len(kinds)))]
    return tuple(sample for kind in chosen for sample in samples if sample.kind == kind)


def _from_parquet(folder: Path, names: list[str]) -> tuple[int, Iterator[Item], list[SetAside]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def items() -> Iterator[Item]:
        for name in names:
            with pq.ParquetFile(folder / f"{name}.parquet") as file:
                text = [c for c in ("label", "label_name", "captions") if c in file.schema_arrow.names]
                at = 0
                for batch in file.iter_batches(batch_size=256, columns=["image", *text]):
                    for row in batch.to_pylist():
                        yield _item(name, at, row)
                        at += 1

    try:
        total = 0
        for name in names:
            with pq.ParquetFile(folder / f"{name}.parquet") as file:
                total += file.metadata.num_rows
                schema = file.schema_arrow
                kind = schema.field("image").type if "image" in schema.names else None
                if kind is None or not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
                    got = ", ".join(f"{field.name}: {field.type}" for field in schema)
                    raise UserError(
                        f"describe: expected a column image (a struct of bytes and path) in {folder / name}.parquet; "
                        f"got {got}"
                    )
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"describe: {folder} cannot be read as Parquet: {error}") from error
    return total, items(), []


def _item(part: str, at: int, row: dict[str, Any]) -> Item:
    image = row["image"] or {}
    label = row.get("label")
    kind = row.get("label_name") or ("no class" if label is None else f"class {label}")
    captions = captions_in(row.get("captions"))
    name = f"{part}/{printable(image.get('path') or f'row {at}')}"
    return Item(part=part, name=name, kind=str(kind), captions=captions, content=image.get("bytes") or b"")


def _from_images(folder: Path) -> tuple[int, Iterator[Item], list[SetAside], tuple[str, ...]]:
    """Parts and classes as `kka.data.sides` reads them; where it cannot, as the folders are called."""
    layout = read_layout(folder)
    captions, problems = read_captions(folder, layout.metadata, layout.files)
    sides: Sides | None = None
    try:
        sides = choose_sides(layout, source=printable(str(folder)))
        notes = (sides.said, *sides.notes)
    except UserError as error:
        notes = (f"kka run needs to be told more: {error}", *layout.notes)

    def items() -> Iterator[Item]:
        for path, file in layout.photos.items():
            part, kind = _part_and_kind(layout, sides, path)
            yield Item(part=part, name=path, kind=kind, captions=captions.get(path, ()), content=file)

    return len(layout.places), items(), [*layout.set_aside, *problems], notes


def _part_and_kind(layout: Layout, sides: Sides | None, path: str) -> tuple[str, str]:
    place = layout.places[path]
    if sides is None:
        return place.split or ("elsewhere" if layout.has_train else "photos"), place.kind
    if path in sides.test:
        return "test", sides.test[path]
    if path in sides.train:
        sorted_ = layout.has_train or sides.test
        return ("train", sides.train[path]) if sorted_ else ("photos", "photos")
    return place.split or "elsewhere", GOOD if "normal" in place.labels else place.kind


def _origin(folder: Path) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    file = folder / "dataset.json"
    if not file.is_file():
        return None, ()
    try:
        origin = parse_json(file.read_text(encoding="utf-8"))
        sums = dict(origin["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, (file.name,)  # it is of something else, or damaged
    return origin, tuple(name for name, expected in sums.items() if sha256(folder / name) != expected)
