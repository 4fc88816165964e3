"""Files and folders that travel to other machines as bytes."""

import os
import time
from pathlib import Path

from kka.common.packed import KEPT_DAYS, pack, unpack_once


def packed(folder: Path, text: str) -> bytes:
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "model/weights").write_text(text)
    (folder / "model/.lock").write_text("held")
    return pack(folder, ["model"])


def test_what_was_sent_is_written_once(tmp_path: Path) -> None:
    """Without what is hidden; and not again where it is there."""
    sent = packed(tmp_path / "here", "one")
    there = unpack_once(sent, tmp_path / "cache")
    assert (there / "model/weights").read_text() == "one" and not (there / "model/.lock").exists()
    (there / "model/weights").write_text("as it was")
    assert unpack_once(sent, tmp_path / "cache") == there and (there / "model/weights").read_text() == "as it was"


def test_what_nothing_asks_for_is_removed(tmp_path: Path) -> None:
    """A machine of a cluster would keep every detector and model that it was ever sent."""
    one, other = (packed(tmp_path / "here", text) for text in ("one", "other"))
    kept, left = (unpack_once(sent, tmp_path / "cache") for sent in (one, other))
    assert kept != left
    long_ago = time.time() - (KEPT_DAYS + 1) * 86_400
    for folder in (kept, left):
        os.utime(folder, (long_ago, long_ago))
    assert unpack_once(one, tmp_path / "cache") == kept and not left.exists()  # what is asked for is young again
    assert (unpack_once(other, tmp_path / "cache") / "model/weights").read_text() == "other" and kept.is_dir()
