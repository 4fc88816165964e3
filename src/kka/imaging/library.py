"""The captioned pictures of a folder, for `bank:<folder>`: its training images, and never its test images."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from kka.common.images import Source, decode, decode_in_own_range, first_few
from kka.common.opened import ImageError
from kka.common.walk import printable
from kka.data.layout import Layout, read_layout
from kka.data.metadata import METADATA, read_captions
from kka.errors import UserError
from kka.settings.fit import Fit
from kka.task import Knowledge, SetAside

MAX_SIDE = 128
"""Pictures are kept as squares with the side of the first one, up to this, in pixels."""


def read_library(name: str, *, size: int | None = None, fit: Fit = "crop") -> Knowledge:
    """The captioned training images of a Parquet folder, or of an image folder with `metadata.jsonl`.

    `size`: the side in pixels. `fit`: how pictures become squares.
    What cannot be read is left out with a warning, as are images without a caption.
    Raises UserError for a folder that is not there or holds no captioned image.
    """
    folder = library_folder(name)
    parquet = (folder / "train.parquet").is_file()
    sources, captions, kinds = _parquet(folder / "train.parquet") if parquet else _images(folder)
    if not sources:
        raise UserError(
            f"bank:{name}: expected train.parquet with captions, or images with captions in {METADATA}; got none"
        )
    side = size or _first_side(sources)
    decoded = decode_in_own_range(lambda: iter(sources), len(sources), side, where=name, fit=fit)
    _warn(name, decoded.set_aside)
    return Knowledge(
        images=decoded.images,
        captions=tuple(captions[i] for i in decoded.kept),
        kinds=tuple(kinds[i] for i in decoded.kept),
    )


def library_folder(name: str) -> Path:
    """Raises UserError for a folder that is not there."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"bank:{name}: expected a folder with train.parquet, or of images with {METADATA}; got no folder there"
        )
    return folder


class _Rows:
    """The images of a Parquet file, read in order as they are asked for."""

    def __init__(self, path: Path, rows: list[int]) -> None:
        self.path, self.rows = path, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Source]:
        import pyarrow.parquet as pq

        wanted, row = set(self.rows), 0
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=256, columns=["image.bytes"]):
                for value in batch.column(0).field("bytes"):
                    if row in wanted:
                        yield f"{self.path.name}:row {row}", value.as_py() or b""
                    row += 1


_Library = tuple[_Rows | list[Source], list[tuple[str, ...]], list[str]]
"""The pictures, the captions of each, and the class of each."""


def _parquet(path: Path) -> _Library:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        if not {"image", "captions"} <= {*names}:
            raise UserError(f"{path}: expected the columns image and captions; got {', '.join(names)}")
        table = pq.read_table(path, columns=[n for n in ("captions", "label_name") if n in names])
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read as Parquet: {error}") from error
    captions = [tuple(c for c in given or () if c and c.strip()) for given in table["captions"].to_pylist()]
    kinds = table["label_name"].to_pylist() if "label_name" in names else [""] * len(captions)
    rows = [row for row, given in enumerate(captions) if given]
    return _Rows(path, rows), [captions[row] for row in rows], [str(kinds[row] or "") for row in rows]


def _images(folder: Path) -> _Library:
    try:
        layout = read_layout(folder)
    except UserError:
        return [], [], []  # there is no image
    captions, problems = read_captions(folder, layout.metadata, layout.files)
    faults = [problem for problem in problems if not problem.reason.startswith("no such image")]
    _warn(folder.name, [*layout.set_aside, *faults])
    training = _training(layout)
    written = {path: captions[path] for path in captions if path in training}
    return (
        [(path, layout.files[path]) for path in written],
        list(written.values()),
        [Path(path).parent.name for path in written],
    )


def _training(layout: Layout) -> set[str]:
    """The photos that are no test images: of train/, where that is; else those of no split, and without the anomalies
    that form the test set of the normals beside them."""
    side = "train" if layout.has_train else None
    chosen = {path: place for path, place in layout.places.items() if place.split == side}
    tested = {path for path, place in chosen.items() if "anomalous" in place.labels}
    if side or not any("normal" in place.labels for place in chosen.values()):
        return {*chosen}
    if tested:
        warnings.warn(f"bank:{layout.folder.name}: {len(tested)} anomalies are a test set, and left out", stacklevel=4)
    return {*chosen} - tested


def _first_side(sources: _Rows | list[Source]) -> int:
    """The shorter side of the first picture that can be read, at most MAX_SIDE."""
    for _, source in sources:
        try:
            return min(*decode(source).shape[:2], MAX_SIDE)
        except ImageError:
            continue  # decode_all names it
    return MAX_SIDE


def _warn(name: str, problems: list[SetAside] | tuple[SetAside, ...]) -> None:
    if problems:
        found = first_few(tuple(problems))
        warnings.warn(f"bank:{printable(name)}: {len(problems)} left out: {found}", stacklevel=3)
