"""Eq. 8: the anomalies that the detector trains with, and how a round changes them.

KKA (add) appends new hard anomalies; KKA (rep) puts them in the place of easy ones, at a constant number. Both stop
where hard anomalies would make up more than `max_hard_share` of the pool: a pool that is mostly hard teaches the
detector to overlook the normals. Which hard ones enter is random, not the closest: those may be normals in truth.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kka.algorithm.hardness import is_hard
from kka.common.disk import reading
from kka.protocols import Images


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

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def hard(self) -> np.ndarray:
        """(n,) bool, by the last judgement."""
        return is_hard(np.array([entry.relative for entry in self.entries], dtype=np.float64))

    def judged(self, round_number: int, relative: Sequence[float]) -> "AnomalyPool":
        """The same pool with one more judgement of every image."""
        entries = tuple(
            replace(entry, history=(*entry.history, (round_number, float(r))))
            for entry, r in zip(self.entries, relative, strict=True)
        )
        return AnomalyPool(entries, self.images)

    def take(self, index: Sequence[int]) -> "AnomalyPool":
        """The images at `index`, in that order."""
        return AnomalyPool(tuple(self.entries[i] for i in index), self.images[np.asarray(index, dtype=int)])

    def with_added(self, fresh: "AnomalyPool", limit: int, *, max_hard_share: float, seed: int) -> "AnomalyPool":
        """KKA (add): at most `limit` random hard images of `fresh` join."""
        room = _room(int(self.hard.sum()), len(self), max_hard_share, grows=True)
        chosen = _some(np.flatnonzero(fresh.hard), min(limit, room), seed)
        joined = fresh.take(chosen)
        return AnomalyPool(self.entries + joined.entries, np.concatenate([self.images, joined.images]))

    def with_replaced(self, fresh: "AnomalyPool", limit: int, *, max_hard_share: float, seed: int) -> "AnomalyPool":
        """KKA (rep): at most `limit` random easy images give way to as many random hard ones of `fresh`."""
        room = _room(int(self.hard.sum()), len(self), max_hard_share, grows=False)
        easy, hard = np.flatnonzero(~self.hard), np.flatnonzero(fresh.hard)
        count = min(limit, room, len(easy), len(hard))
        leaving = set(_some(easy, count, seed))
        joined = fresh.take(_some(hard, count, seed + 1))
        staying = self.take([i for i in range(len(self)) if i not in leaving])
        return AnomalyPool(staying.entries + joined.entries, np.concatenate([staying.images, joined.images]))

    def save(self, path: Path) -> None:
        """Write one Parquet file: a Hugging Face `image` column (PNG) and the lineage."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [
            {
                "image": {"bytes": _png(image), "path": f"{entry.id}.png"},
                **{name: getattr(entry, name) for name in _COLUMNS},
                "history": [{"round": r, "relative_distance": d} for r, d in entry.history],
            }
            for entry, image in zip(self.entries, self.images, strict=True)
        ]
        height, width = self.images.shape[1:3]
        schema = _schema().with_metadata({"size": f"{height}x{width}", "huggingface": _FEATURES})
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)

    @classmethod
    def load(cls, path: Path) -> "AnomalyPool":
        """Read what `save` wrote. UserError where that is missing or damaged."""
        import pyarrow.parquet as pq

        with reading(path):
            table = pq.read_table(path)
            rows = table.to_pylist()
            height, width = map(int, table.schema.metadata[b"size"].decode().split("x"))
            images = np.zeros((len(rows), height, width, 3), dtype=np.uint8)
            for i, row in enumerate(rows):
                images[i] = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))
            return cls(_lineage(rows), images)


def read_lineage(path: Path) -> tuple[Lineage, ...]:
    """The lineage of a pool that `AnomalyPool.save` wrote, without its pictures."""
    import pyarrow.parquet as pq

    with reading(path):
        return _lineage(pq.read_table(path, columns=[*_COLUMNS, "history"]).to_pylist())


def _lineage(rows: Sequence[dict[str, Any]]) -> tuple[Lineage, ...]:
    return tuple(
        Lineage(
            **{name: row[name] for name in _COLUMNS},
            history=tuple((h["round"], h["relative_distance"]) for h in row["history"]),
        )
        for row in rows
    )


_FEATURES = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
"""Tells the `datasets` library that the column holds pictures, so that it decodes them."""
_COLUMNS = ("id", "round", "prompt", "caption", "seed", "language_model", "image_model", "key")


def _schema():  # type: ignore[no-untyped-def]  # pyarrow ships no types
    import pyarrow as pa

    kinds = {"round": pa.int64(), "seed": pa.int64()}
    return pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))]
        + [(name, kinds.get(name, pa.string())) for name in _COLUMNS]
        + [("history", pa.list_(pa.struct([("round", pa.int64()), ("relative_distance", pa.float64())])))]
    )


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def _some(candidates: np.ndarray, count: int, seed: int) -> list[int]:
    """`count` of the candidates at random, in ascending order."""
    return sorted(np.random.default_rng(seed).permutation(candidates)[:count].tolist())


def _room(hard: int, size: int, max_hard_share: float, *, grows: bool) -> int:
    """How many hard images may still enter: (hard + x) / (size [+ x]) <= max_hard_share."""
    if grows:
        if max_hard_share >= 1:
            return 2**31
        room = (max_hard_share * size - hard) / (1 - max_hard_share)
    else:
        room = max_hard_share * size - hard
    return max(0, int(np.floor(room + 1e-9)))
