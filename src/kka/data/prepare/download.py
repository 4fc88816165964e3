"""Downloads that survive a broken line: resumed where the server allows it, checked, and moved into place whole."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from kka.common.progress import Progress
from kka.errors import UserError

BLOCK = 1 << 18
TIMEOUT = 60
"""Seconds without a byte after which an attempt is given up."""
ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file of an official distribution."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


def check_md5(path: Path) -> str:
    """The MD5 of a file, by which the official distributions are known."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fetch(
    download: Download, folder: Path, *, where: str, progress: Progress | None = None, pause: float = 1.0
) -> Path:
    """The file, in `folder`: as it lies there if its checksum is right, else downloaded.

    What arrived before a break is kept in `.<name>.part`, and the next attempt, or the next call, goes on from there.
    `pause`: seconds before the second attempt; doubled each time. Raises UserError, which ends with `where` (how to
    get the file by hand), when no attempt succeeds or the checksum is wrong.
    """
    path = folder / download.name
    if path.is_file() and check_md5(path) == download.md5:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{download.name}.part"
    resumed = part.is_file() and part.stat().st_size > 0
    _until_whole(download, part, where, progress, pause)
    found = check_md5(part)
    if found != download.md5 and resumed:  # what was there may have been of another file
        part.unlink()
        _until_whole(download, part, where, progress, pause)
        found = check_md5(part)
    if found != download.md5:
        part.unlink()
        raise UserError(f"{download.url}: expected a file with MD5 {download.md5}; got one with {found}. {where}")
    part.replace(path)
    return path


def _until_whole(download: Download, part: Path, where: str, progress: Progress | None, pause: float) -> None:
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _attempt(download.url, part, progress)
            return
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == 416:  # there is nothing from here on: the part is whole, or not of this file
                if _is_whole(error, part):
                    return
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                break
        except (OSError, http.client.HTTPException) as error:  # URLError, timeouts, resets and short answers
            reason = str(error) or type(error).__name__
    raise UserError(
        f"{download.url} cannot be downloaded ({reason}). What has arrived is kept; the same command goes on. {where}"
    )


def _attempt(url: str, part: Path, progress: Progress | None) -> None:
    start = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "kka", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
        if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0  # the server sends the whole
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else 0
        done = start
        with part.open("ab" if start else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, max(total, done))
    if done < total:
        raise OSError(f"the connection broke after {done:,} of {total:,} bytes")


def _is_whole(error: urllib.error.HTTPError, part: Path) -> bool:
    return error.headers.get("Content-Range", "") == f"bytes */{part.stat().st_size}"
