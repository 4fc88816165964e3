"""Eq. 8: the anomalies that the detector trains with, and how a round changes them.

KKA (add) appends new hard anomalies; KKA (rep) puts them in the place of easy ones, at a constant number. Both stop
where hard anomalies would make up more than `max_hard_share` of the pool: a pool that is mostly hard teaches the
detector to overlook the normals. Which hard ones enter is random, not the closest: those may be normals in truth.
With an `order` (`kka.algorithm.selection`) the first ones in it enter, hard or not, until one half of the pool is
from later rounds; the other half stays generic, from round 0.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from kka.algorithm.hardness import is_hard
from kka.common.disk import reading
from kka.common.mapped import empty, joined, taken
from kka.protocols import Images, Masks


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where one generated image came from, and how it was judged."""

    id: str
    round: int
    prompt: str
    caption: str
    seed: int
    language_model: str
    image_model: str
    key: str
    """The picture in the cache or in the library."""
    normal: int | None = None
    """Of a picture that an image model altered: the index of its normal among the task's."""
    history: tuple[tuple[int, float], ...] = ()
    """(round, relative distance) of every judgement; below 1 = hard."""

    @property
    def relative(self) -> float:
        """The last judgement; infinite (easy) before the first."""
        return self.history[-1][1] if self.history else float("inf")


@dataclass(frozen=True)
class AnomalyPool:
    """Images of generated anomalies, (n, h, w, 3), with the lineage of each."""

    entries: tuple[Lineage, ...]
    images: Images
    masks: Masks | None = None
    """Where each normal was altered, up to 255 the more of a pixel; None: the pictures are drawn from nothing."""

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def relative(self) -> Float[np.ndarray, "n"]:
        """The relative distance of each at its last judgement; infinite before the first."""
        return np.array([entry.relative for entry in self.entries], dtype=np.float64)

    @property
    def normal_of(self) -> Int[np.ndarray, "n"]:
        """Of each altered normal, which of the task's normals it is; -1 of pictures that are drawn from nothing."""
        return np.array([-1 if entry.normal is None else entry.normal for entry in self.entries], dtype=np.int64)

    @property
    def hard(self) -> np.ndarray:
        """(n,) bool, by the last judgement."""
        return is_hard(self.relative)

    def judged(self, round_number: int, relative: Sequence[float]) -> "AnomalyPool":
        """The same pool with one more judgement of every image."""
        entries = tuple(
            replace(entry, history=(*entry.history, (round_number, float(r))))
            for entry, r in zip(self.entries, relative, strict=True)
        )
        return AnomalyPool(entries, self.images, self.masks)

    def take(self, index: Sequence[int]) -> "AnomalyPool":
        """The images at `index`, in that order."""
        places = np.asarray(index, dtype=int)
        masks = None if self.masks is None else taken(self.masks, places)
        return AnomalyPool(tuple(self.entries[i] for i in index), taken(self.images, places), masks)

    def joined(self, other: "AnomalyPool") -> "AnomalyPool":
        """These, then the other's, which has masks where this one has."""
        masks = None
        if self.masks is not None and other.masks is not None:
            masks = joined(self.masks, other.masks)
        return AnomalyPool(self.entries + other.entries, joined(self.images, other.images), masks)

    def with_added(
        self, fresh: "AnomalyPool", limit: int, *, max_hard_share: float, seed: int, order: Sequence[int] | None = None
    ) -> "AnomalyPool":
        """KKA (add): at most `limit` images of `fresh` join: random hard ones, or the first in `order` (places)."""
        bounds = Bounds(limit, max_hard_share, None if order is None else LATER_SHARE, grows=True)
        joined = fresh.take(self._admitted(fresh, _random_hard(fresh, seed) if order is None else order, bounds))
        return self.joined(joined)

    def with_replaced(
        self, fresh: "AnomalyPool", limit: int, *, max_hard_share: float, seed: int, order: Sequence[int] | None = None
    ) -> "AnomalyPool":
        """KKA (rep): at most `limit` random easy images give way to as many random hard ones of `fresh`; with an
        `order`, random easy ones of round 0 to the first in it."""
        easy = self.may_leave(any_round=order is None)
        bounds = Bounds(min(limit, len(easy)), max_hard_share, None if order is None else LATER_SHARE, grows=False)
        entering = self._admitted(fresh, _random_hard(fresh, seed + 1) if order is None else order, bounds)
        leaving = set(np.random.default_rng(seed).permutation(easy)[: len(entering)].tolist())
        joined = fresh.take(entering)
        staying = self.take([i for i in range(len(self)) if i not in leaving])
        return staying.joined(joined)

    def may_leave(self, *, any_round: bool) -> np.ndarray:
        """The places of the easy images that KKA (rep) may replace: of any round, or of round 0 alone."""
        generic = np.array([any_round or entry.round == 0 for entry in self.entries], dtype=bool)
        return np.flatnonzero(~self.hard & generic)

    def _admitted(self, fresh: "AnomalyPool", order: Sequence[int], bounds: "Bounds") -> list[int]:
        """The places in `fresh` of those that enter, ascending: the first in `order` that no bound keeps out."""
        hard, later = int(self.hard.sum()), sum(entry.round > 0 for entry in self.entries)
        is_hard_one = fresh.hard
        chosen: list[int] = []
        for i in order:
            size = len(self) + (len(chosen) + 1 if bounds.grows else 0)
            if len(chosen) == bounds.limit:
                break
            if bounds.max_later_share is not None and exceeds(later + len(chosen) + 1, size, bounds.max_later_share):
                break
            if is_hard_one[i] and exceeds(hard + 1, size, bounds.max_hard_share):
                continue
            hard += int(is_hard_one[i])
            chosen.append(int(i))
        return sorted(chosen)

    def save(self, path: Path) -> None:
        """Write one Parquet file: a Hugging Face `image` column (PNG), a `mask` column where there are masks, and the
        lineage."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        pictures = {"image": self.images} if self.masks is None else {"image": self.images, "mask": self.masks}
        names = (*_COLUMNS, *(() if self.masks is None else _OF_ALTERED))

        def row(i: int) -> dict[str, Any]:
            entry = self.entries[i]
            return {
                **{name: {"bytes": _png(of[i]), "path": f"{entry.id}.png"} for name, of in pictures.items()},
                **{name: getattr(entry, name) for name in names},
                "history": [{"round": r, "relative_distance": d} for r, d in entry.history],
            }

        height, width = self.images.shape[1:3]
        # Tells the `datasets` library which columns hold pictures, so that it decodes them.
        features = json.dumps({"info": {"features": {name: {"_type": "Image"} for name in pictures}}})
        schema = _schema(tuple(pictures), names).with_metadata({"size": f"{height}x{width}", "huggingface": features})
        with pq.ParquetWriter(path, schema) as file:  # a group of rows at a time: not all the files are in memory
            for start in range(0, max(1, len(self)), GROUP):
                rows = [row(i) for i in range(start, min(start + GROUP, len(self)))]
                file.write_table(pa.Table.from_pylist(rows, schema=schema))

    @classmethod
    def load(cls, path: Path) -> "AnomalyPool":
        """Read what `save` wrote. UserError where that is missing or damaged."""
        import pyarrow.parquet as pq

        with reading(path):
            with pq.ParquetFile(path) as file:
                schema, number = file.schema_arrow, file.metadata.num_rows
                height, width = map(int, schema.metadata[b"size"].decode().split("x"))
                images = empty((number, height, width, 3))
                masks = empty((number, height, width)) if "mask" in schema.names else None
                entries: list[Lineage] = []
                for part in file.iter_batches(batch_size=GROUP):
                    rows = part.to_pylist()
                    for i, row in enumerate(rows, start=len(entries)):
                        images[i] = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))
                        if masks is not None:
                            masks[i] = np.asarray(Image.open(io.BytesIO(row["mask"]["bytes"])))
                    entries += _lineage(rows)
            return cls(tuple(entries), images, masks)


def read_lineage(path: Path) -> tuple[Lineage, ...]:
    """The lineage of a pool that `AnomalyPool.save` wrote, without its pictures."""
    import pyarrow.parquet as pq

    with reading(path):
        there = set(pq.read_schema(path).names)
        names = [*_COLUMNS, *(name for name in _OF_ALTERED if name in there), "history"]
        return _lineage(pq.read_table(path, columns=names).to_pylist())


def _lineage(rows: Sequence[dict[str, Any]]) -> tuple[Lineage, ...]:
    return tuple(
        Lineage(
            **{name: row[name] for name in _COLUMNS},
            **{name: row[name] for name in _OF_ALTERED if name in row},
            history=tuple((h["round"], h["relative_distance"]) for h in row["history"]),
        )
        for row in rows
    )


_COLUMNS = ("id", "round", "prompt", "caption", "seed", "language_model", "image_model", "key")
_OF_ALTERED = ("normal",)
"""Columns beside a mask."""


def _schema(pictures: Sequence[str], names: Sequence[str]):  # type: ignore[no-untyped-def]  # pyarrow ships no types
    import pyarrow as pa

    kinds = {"round": pa.int64(), "seed": pa.int64(), "normal": pa.int64()}
    return pa.schema(
        [(name, pa.struct([("bytes", pa.binary()), ("path", pa.string())])) for name in pictures]
        + [(name, kinds.get(name, pa.string())) for name in names]
        + [("history", pa.list_(pa.struct([("round", pa.int64()), ("relative_distance", pa.float64())])))]
    )


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


GROUP = 250
"""Pictures that are read or written at a time."""
LATER_SHARE = 0.5
"""Where an order says what enters: at most this share of the pool is of later rounds, and the rest generic."""


@dataclass(frozen=True)
class Bounds:
    """How many images of a round may enter the pool."""

    limit: int
    max_hard_share: float
    max_later_share: float | None
    """Of images that are not of round 0; None: as many as come."""
    grows: bool
    """Whether the pool gets larger by what enters."""


def exceeds(count: int, size: int, share: float) -> bool:
    """Whether `count` of `size` is more than `share`, but for rounding."""
    return count > share * size + 1e-9


def _random_hard(fresh: AnomalyPool, seed: int) -> list[int]:
    """The places of the hard ones in a random order."""
    places: list[int] = np.random.default_rng(seed).permutation(np.flatnonzero(fresh.hard)).tolist()
    return places
