"""Hugging Face's ImageFolder: pictures, and `metadata.jsonl` with a line for each.

`datasets.load_dataset("imagefolder", data_dir=DIR)` opens it, and so does kka (`--images bank:DIR`). A picture's mask,
where there is one, is a second picture of the line: `mask_file_name`.
"""

from pathlib import Path
from typing import Any

from kka.common.files import write_jsonl
from kka.common.progress import Progress
from kka.exchange.source import Exported, row
from kka.exchange.target import write_pictures


def write(exported: Exported, folder: Path, progress: Progress) -> dict[str, Any]:
    """`images/`, `masks/` where there are any, and `metadata.jsonl`."""
    write_pictures(exported, folder / "images", progress, masks=folder / "masks")
    rows = []
    for entry in exported.pool.entries:
        said = {"file_name": f"images/{entry.id}.png", **row(entry)}
        if exported.masked:  # a column that is empty in places could not be opened
            said["mask_file_name"] = f"masks/{entry.id}.png"
        rows.append(said)
    write_jsonl(folder / "metadata.jsonl", rows)
    return {}
