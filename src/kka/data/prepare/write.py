"""Writes train.parquet, test.parquet and dataset.json: in batches, so that memory stays flat, and whole or not at all.

The columns are those that `kka.data.parquet` reads. dataset.json is written last: where it is, the rest is whole.
"""

import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from kka.common.files import sha256, write_atomically
from kka.common.images import decode, fitted, refuse_if_many_are_bad
from kka.common.opened import ImageError
from kka.common.progress import Progress
from kka.data.prepare.records import Content, DataSet, Record
from kka.errors import UserError
from kka.language.captioner import Captioner
from kka.task import SetAside

ROWS = 500
"""Pictures in memory at a time, encoded; also the rows of a row group."""
CARD = "dataset.json"
ENDINGS = {"webp": ".webp", "jpeg": ".jpg"}


def schema(dataset: DataSet) -> pa.Schema:
    """The columns, with the superclasses where the data set has some."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = [("image", image), ("label", pa.int16()), ("label_name", pa.string())]
    if dataset.coarse:
        columns += [("coarse_label", pa.int16()), ("coarse_name", pa.string())]
    return pa.schema([*columns, ("captions", pa.list_(pa.field("element", pa.string())))])


class Writer:
    """Stores records of one data set below `folder`, and counts what it stores."""

    def __init__(
        self, dataset: DataSet, folder: Path, size: int, captioner: Captioner | None, progress: Progress | None = None
    ) -> None:
        self.dataset, self.folder, self.size, self.captioner = dataset, folder, size, captioner
        self.progress = progress
        self.set_aside: list[SetAside] = []
        self.captions: Counter[str] = Counter()
        """Images whose captions are their own, a model's, or the class name's."""
        self.counts: dict[str, Counter[str]] = {"train": Counter(), "test": Counter()}

    def write(self, records: Sequence[Record], card: dict[str, Any]) -> dict[str, Any]:
        """Write all three files; returns `card` completed with what only writing tells.

        Raises UserError when more than a tenth of the pictures cannot be read, or a side would be empty.
        """
        parts = {side: self.folder / f".{side}.parquet.part" for side in self.counts}
        try:
            for side, part in parts.items():
                self._write_side([r for r in records if r.side == side], part, len(records))
            refuse_if_many_are_bad(self.set_aside, len(records), where=str(card["source"].get("from", "the download")))
            empty = [side for side, counts in self.counts.items() if not counts]
            if empty:
                raise UserError(f"expected training and test images; got none for {' and '.join(empty)}")
            (self.folder / CARD).unlink(missing_ok=True)  # it would speak of other files
            for side, part in parts.items():
                part.replace(self.folder / f"{side}.parquet")
        finally:
            for part in parts.values():
                part.unlink(missing_ok=True)
        card = {**card, **self._facts([*card["set_aside"], *self.set_aside])}
        write_atomically(self.folder / CARD, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
        return card

    def _write_side(self, records: list[Record], part: Path, total: int) -> None:
        columns = schema(self.dataset)
        before = 0 if part.name.startswith(".train") else total - len(records)
        with (
            pq.ParquetWriter(part, columns, compression="zstd") as writer,
            ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # as kka.common.images: a bomb is set aside
            for start in range(0, len(records), ROWS):
                rows = self._rows(records[start : start + ROWS], pool)
                if rows:
                    writer.write_table(pa.Table.from_pylist(rows, schema=columns), row_group_size=ROWS)
                if self.progress is not None:
                    self.progress(before + min(start + ROWS, len(records)), total)
        with part.open("rb") as file:
            os.fsync(file.fileno())

    def _rows(self, records: list[Record], pool: ThreadPoolExecutor) -> list[dict[str, Any]]:
        kept: list[tuple[Record, bytes]] = []
        for record, result in zip(records, pool.map(self._encode, records), strict=True):
            if isinstance(result, ImageError):
                self.set_aside.append(SetAside(path=record.name, reason=str(result)))
            else:
                kept.append((record, result))
        return [
            self._row(record, content, captions)
            for (record, content), captions in zip(kept, self._captions(kept), strict=True)
        ]

    def _row(self, record: Record, content: bytes, captions: tuple[str, ...]) -> dict[str, Any]:
        name = self.dataset.label_name(record.label)
        assert record.side is not None
        self.counts[record.side][name] += 1
        path = Path(record.name).stem + ENDINGS[self.dataset.encoding]
        row = {"image": {"bytes": content, "path": path}, "label": record.label, "label_name": name}
        if self.dataset.coarse:
            row["coarse_label"], row["coarse_name"] = self.dataset.coarse[record.label]
        return {**row, "captions": list(captions)}

    def _captions(self, kept: list[tuple[Record, bytes]]) -> Iterator[tuple[str, ...]]:
        """Each picture's own captions, else the model's, else the class name's."""
        bare = [content for record, content in kept if not record.captions]
        written = iter(self.captioner(bare) if self.captioner is not None and bare else [""] * len(bare))
        for record, _ in kept:
            caption = "" if record.captions else next(written)
            self.captions["own" if record.captions else "model" if caption else "class_name"] += 1
            yield record.captions or (caption or self.dataset.captions(record.label),)

    def _encode(self, record: Record) -> bytes | ImageError:
        try:
            pixels = _square(record.load(), self.size)
        except ImageError as error:
            return error
        buffer = io.BytesIO()
        if self.dataset.encoding == "webp":
            # method 2 gives files as small as the default, four times as fast
            Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, exact=True, method=2)
        else:
            Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
        return buffer.getvalue()

    def _facts(self, set_aside: list[SetAside]) -> dict[str, Any]:
        per_class = {
            name: {side: counts[name] for side, counts in self.counts.items()} for name in self.dataset.label_names
        }
        return {
            "images": {side: counts.total() for side, counts in self.counts.items()},
            "classes": sum(any(sides.values()) for sides in per_class.values()),
            "images_by_class": per_class,
            "captions": dict(self.captions),
            "set_aside": [{"path": item.path, "reason": item.reason} for item in set_aside],
            "sha256": {f"{side}.parquet": sha256(self.folder / f"{side}.parquet") for side in self.counts},
        }


def _square(content: Content, size: int) -> np.ndarray:
    if not isinstance(content, np.ndarray):
        return decode(content, size)
    return np.asarray(fitted(Image.fromarray(content), size, size))
