"""Any number of image files scored by copies of a detector on several machines, into Parquet files of a folder.

Each file of the folder, a shard, has the rows of so many image files, in their order. A shard that is there is not made
again, so a job that was stopped goes on. Few shards are at work at a time, whose pictures alone are in memory.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kka.common.caches import cache_folder
from kka.common.files import read_json, replacing, write_atomically
from kka.common.hold import held
from kka.common.packed import pack, unpack_once
from kka.common.progress import Progress
from kka.common.walk import printable
from kka.common.workers import Copies
from kka.deploy.score import CHUNK, score_readable
from kka.deploy.stored import StoredDetector, open_detector
from kka.deploy.stored_scores import detector_digest
from kka.errors import UserError

SHARD = 8 * CHUNK
"""Image files of a shard: whole chunks, so that each is scored with the neighbours that it has on one machine."""
MADE_FROM = "_shards.json"
"""In the folder: what its shards were made from. Readers of Parquet folders pass over such a name."""


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """What a folder of shards holds."""

    files: int
    anomalous: int
    set_aside: int
    """That could not be read: their rows have no score, and the reason."""
    clipped: int
    """With values beyond the range that the detector was trained on."""
    made: int
    """Shards that were made now; the others were there."""


def score_shards(
    kept: StoredDetector, files: Sequence[Path], out: Path, copies: Copies, *, progress: Progress | None = None
) -> Sharded:
    """Score the files into the folder `out`: part-00000.parquet and so on, with the columns file, score, anomalous
    (null without a threshold), reason (why a file could not be read), clipped.

    Raises:
        UserError: a folder with the shards of other files or another detector; no file could be read.
    """
    with held(out):
        out.mkdir(parents=True, exist_ok=True)
        _require_same(out, kept, files)
        parts = [files[start : start + SHARD] for start in range(0, len(files), SHARD)]
        targets = [out / f"part-{number:05d}.parquet" for number in range(len(parts))]
        missing = [number for number, target in enumerate(targets) if not target.is_file()]
        done = sum(len(part) for part in parts) - sum(len(parts[number]) for number in missing)
        if progress is not None:
            progress(done, len(files))
        items = (([str(file) for file in parts[number]],) for number in missing)
        for place, rows in copies.each(score_there, items, most=len(missing)):
            _write(targets[missing[place]], rows)
            done += len(parts[missing[place]])
            if progress is not None:
                progress(done, len(files))
        return _counted(targets, made=len(missing))


def sent(kept: StoredDetector, of: str | None, threshold: str | None) -> tuple[Any, ...]:
    """What `open_there` needs for a copy of the detector as it was opened here."""
    names = [path.name for path in sorted(kept.folder.iterdir())]
    return pack(kept.folder, names), of, threshold


def open_there(packed: bytes, of: str | None, threshold: Any) -> StoredDetector:
    """On another machine."""
    return open_detector(unpack_once(packed, cache_folder() / "sent"), of=of).by(threshold)


def require_paths(named: Sequence[str]) -> None:
    """On another machine: raises UserError where one of them does not exist."""
    for name in named:
        if not Path(name).exists():
            raise UserError(f"expected the images at {Path(name).absolute()}, at the same path as on the machine that "
                            f"asks; found none")  # fmt: skip


def score_there(kept: StoredDetector, files: Sequence[str]) -> dict[str, list[Any]]:
    """On another machine: the columns of a shard."""
    found = score_readable(kept, [Path(file) for file in files])
    rows = {str(row.file): row for row in found.rows}
    reasons = {item.path: item.reason for item in found.set_aside}
    clipped = {item.path for item in found.clipped}
    return {
        "file": list(files),
        "score": [rows[file].score if file in rows else None for file in files],
        "anomalous": [rows[file].anomalous if file in rows else None for file in files],
        "reason": [None if file in rows else reasons.get(printable(file)) for file in files],
        "clipped": [file in clipped for file in files],
    }


def _require_same(out: Path, kept: StoredDetector, files: Sequence[Path]) -> None:
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(str(file).encode("utf-8", "surrogateescape") + b"\0")
    now = {
        "detector": detector_digest(kept), "threshold": kept.threshold, "files": len(files),
        "names": digest.hexdigest(), "shard": SHARD,
    }  # fmt: skip
    marker = out / MADE_FROM
    if not marker.is_file():
        if any(out.glob("*.parquet")):
            raise UserError(f"--out: expected a folder of its own; {out} holds Parquet files that kka score did not "
                            "write there")  # fmt: skip
        write_atomically(marker, json.dumps(now, indent=1))
    elif differ := [name for name, value in read_json(marker).items() if now.get(name) != value]:
        raise UserError(f"{out} holds scores that were made with another {', '.join(differ)}. Name another --out, or "
                        "remove the folder.")  # fmt: skip


def _write(target: Path, columns: dict[str, list[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    shape = pa.schema(
        [("file", pa.string()), ("score", pa.float64()), ("anomalous", pa.bool_()), ("reason", pa.string()),
         ("clipped", pa.bool_())]
    )  # fmt: skip
    columns["file"] = [file.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for file in columns["file"]]
    with replacing(target) as part:
        pq.write_table(pa.table(columns, schema=shape), part)


def _counted(targets: Sequence[Path], *, made: int) -> Sharded:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    files = anomalous = aside = clipped = 0
    why = ""
    for target in targets:
        table = pq.read_table(target)
        files += len(table)
        anomalous += pc.sum(table["anomalous"]).as_py() or 0
        clipped += pc.sum(table["clipped"]).as_py() or 0
        aside += table["score"].null_count
        if not why and table["score"].null_count:
            first = table.filter(pc.is_null(table["score"])).slice(0, 1).to_pylist()[0]
            why = f": {first['file']}: {first['reason']}"
    if files == aside:
        raise UserError(f"images: none of the {files} files could be read{why}")
    return Sharded(files=files, anomalous=anomalous, set_aside=aside, clipped=clipped, made=made)
