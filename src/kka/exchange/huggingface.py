"""A data set as Hugging Face's `datasets` has it: Parquet files with pictures, and a card; and its way to the hub.

`datasets.load_dataset(DIR)` opens it.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kka.common.progress import Progress
from kka.errors import UserError
from kka.exchange.card import SHEET, head, sheet, text
from kka.exchange.source import Exported, row
from kka.exchange.target import MARK

SHARD = 5_000
"""Pictures in a file."""


def write(exported: Exported, folder: Path, progress: Progress) -> dict[str, Any]:
    """`data/train-….parquet`, `README.md` and the sheet that it shows."""
    from datasets import (
        Dataset,
        Features,
        Value,
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from datasets import Image as Picture
    from huggingface_hub import DatasetCardData

    kinds = {"round": "int64", "seed": "int64", "relative_distance": "float64", "hard": "bool"}
    columns: dict[str, Any] = {"image": Picture()} | ({"mask": Picture()} if exported.masked else {})
    columns |= {name: Value(kinds.get(name, "string")) for name in row(exported.pool.entries[0])}
    total, shards = len(exported.pool), -(-len(exported.pool) // SHARD)
    (folder / "data").mkdir()
    showing = not are_progress_bars_disabled()
    disable_progress_bars()  # kka shows its own
    for shard in range(shards):
        rows = []
        for place in range(shard * SHARD, min(total, (shard + 1) * SHARD)):
            progress(place, total)
            entry = exported.pool.entries[place]
            pictures = {"image": _encoded(exported.pool.images[place], entry.id)}
            if exported.masked:
                pictures["mask"] = _encoded(exported.masks[entry.id], f"{entry.id}-mask")
            rows.append(pictures | row(entry))
        named = folder / "data" / f"train-{shard:05d}-of-{shards:05d}.parquet"
        Dataset.from_list(rows, features=Features(columns)).to_parquet(named)
    if showing:
        enable_progress_bars()
    progress(total, total)
    sheet(exported).save(folder / SHEET)
    card = f"---\n{DatasetCardData(**head(exported)).to_yaml()}\n---\n\n{text(exported)}"
    (folder / "README.md").write_text(card, encoding="utf-8")
    return {}


def push(folder: Path, repository: str, *, public: bool = False, endpoint: str | None = None) -> str:
    """Upload what `write` wrote to the Hugging Face hub as the data set `repository` (owner/name); returns its address.

    The token is the one of `hf auth login`, or in HF_TOKEN. A repository that is there is written to as it is; a new
    one is private unless `public`.

    Raises:
        UserError: no token, no such owner, no network: what the hub says.
    """
    from huggingface_hub import HfApi

    hub = HfApi(endpoint=endpoint)
    try:
        hub.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        done = hub.upload_folder(
            folder_path=folder, repo_id=repository, repo_type="dataset", ignore_patterns=[MARK],
            commit_message="Imagined anomalies, exported by kka",
        )  # fmt: skip
    except Exception as error:  # the errors of the library that it speaks HTTP by come through as they are
        raise UserError(
            f"--push: {repository} could not be written to the hub: {_first(error)}. What "
            f"was exported lies in {folder}; hf auth login, then push again."
        ) from error
    return str(done).partition("/commit/")[0].partition("/tree/")[0]


def _first(error: Exception) -> str:
    """Its first line, without a full stop."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def _encoded(image: np.ndarray, name: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": f"{name}.png"}
