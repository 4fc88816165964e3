"""Tiny data sets in the official forms, and a server that hands them out over HTTP."""

import dataclasses
import http.server
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import savemat

from kka.data.prepare.cifar100 import CIFAR100, COARSE, FINE, TREE
from kka.data.prepare.download import Download, check_md5
from kka.data.prepare.oxford102 import OXFORD102
from kka.data.prepare.records import DataSet
from kka.data.prepare.ucm_caption import NAMES, UCM_CAPTION


def pixels(seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(seed: int, height: int, width: int) -> np.ndarray:
    """A picture that JPEG keeps nearly as it is: one colour."""
    return np.broadcast_to(pixels(seed, 1, 1), (height, width, 3)).copy()


def cifar_pixels(side: str, label: int, number: int) -> np.ndarray:
    return pixels(1000 * label + number + 500 * (side == "test"))


def write_cifar(folder: Path, train: int = 2, test: int = 1) -> Path:
    """cifar-100-binary with so many pictures of each class, classes in turn as in the real file."""
    root = folder / "cifar-100-binary"
    root.mkdir(parents=True)
    for side, each in (("train", train), ("test", test)):
        rows = []
        for number in range(each):
            for label in range(100):
                planes = cifar_pixels(side, label, number).transpose(2, 0, 1).tobytes()
                rows.append(bytes([COARSE[label][0], label]) + planes)
        (root / f"{side}.bin").write_bytes(b"".join(rows))
    (root / "fine_label_names.txt").write_text("\n".join(FINE) + "\n")
    (root / "coarse_label_names.txt").write_text("\n".join(sorted(TREE)) + "\n")
    return folder


def oxford_labels(each: int) -> list[int]:
    return [1 + i % 102 for i in range(102 * each)]


def write_oxford(folder: Path, each: int = 3, size: tuple[int, int] = (24, 32)) -> Path:
    """jpg, imagelabels.mat and setid.mat: of each class the first trains, the second validates, the rest test."""
    (folder / "jpg").mkdir(parents=True)
    labels = oxford_labels(each)
    for i in range(1, len(labels) + 1):
        Image.fromarray(smooth(i, *size)).save(folder / "jpg" / f"image_{i:05d}.jpg", quality=95)
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    parts = {"trnid": range(1, 103), "valid": range(103, 205), "tstid": range(205, len(labels) + 1)}
    savemat(folder / "setid.mat", {name: np.array([list(ids)], np.uint16) for name, ids in parts.items()})
    return folder


def write_reed(folder: Path, labels: list[int], lines: int = 10) -> Path:
    """text_c10 as Reed et al. distribute it."""
    for i, label in enumerate(labels, start=1):
        file = folder / "text_c10" / f"class_{label:05d}" / f"image_{i:05d}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"flower {i} said in way {k} \n" for k in range(lines)) + "\n")
    return folder


def write_ucm(folder: Path, each: int = 5) -> Path:
    """UCMerced_LandUse/Images/<class>/<class>00.tif; one is not quite square, as some are in the real set."""
    for k, name in enumerate(NAMES):
        (folder / "UCMerced_LandUse/Images" / name).mkdir(parents=True)
        for n in range(each):
            file = folder / "UCMerced_LandUse/Images" / name / f"{name}{n:02d}.tif"
            Image.fromarray(smooth(100 * k + n, 32, 31 if n == 1 else 32)).save(file)
    return folder


def write_sentences(file: Path, each: int = 5, *, numbered: bool = True) -> Path:
    """The JSON file of UCM-Captions: of each class the last image tests, the one before validates."""
    images = []
    for k, name in enumerate(NAMES):
        for n in range(each):
            split = {each - 1: "test", each - 2: "val"}.get(n, "train")
            images.append(
                {
                    "filename": f"{100 * k + n + 1}.tif" if numbered else f"{name}{n:02d}.tif",
                    "imgid": len(images),
                    "split": split,
                    "sentences": [{"raw": f"{name} {n} way {w} .", "tokens": []} for w in range(5)],
                }
            )
    file.write_text(json.dumps({"images": images, "dataset": "UCM"}))
    return file


def small(dataset: DataSet, each: int = 3) -> DataSet:
    """The same data set, whole with so many images a class (CIFAR-100: two train, one tests)."""
    expected = {CIFAR100.name: {"train": 2, "test": 1}, UCM_CAPTION.name: {"all": each}}.get(dataset.name, {})
    return dataclasses.replace(dataset, expected=expected, total=each * len(dataset.label_names))


def with_files(dataset: DataSet, files: dict[str, Path], url: str) -> DataSet:
    """The same data set, with its downloads at `url` and the checksums of `files`."""
    downloads = tuple(Download(url=f"{url}/{d.name}", md5=check_md5(files[d.name])) for d in dataset.downloads)
    return dataclasses.replace(dataset, downloads=downloads)


def tar(folder: Path, member: str, into: Path) -> Path:
    with tarfile.open(into, "w:gz") as file:
        file.add(folder / member, member)
    return into


def zipped(folder: Path, member: str, into: Path) -> Path:
    with zipfile.ZipFile(into, "w") as file:
        for path in sorted((folder / member).rglob("*")):
            file.write(path, path.relative_to(folder))
    return into


def rows_of(folder: Path, side: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / f"{side}.parquet").to_pylist()


def opened(row: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; what it was asked is in `asked`, as (path, Range header)."""

    def __init__(self, files: dict[str, Path], *, ranges: bool, break_first: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.ranges, self.breaks = files, ranges, break_first
        self.asked: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        file = self.server.files.get(self.path.lstrip("/"))
        if file is None:
            self.send_error(404)
            return
        content = file.read_bytes()
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content)
        if self.server.breaks > 0:  # the line breaks half way
            self.server.breaks -= 1
            end = start + (len(content) - start) // 2
        self.wfile.write(content[start:end])

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def serving(files: dict[str, Path], *, ranges: bool = True, break_first: int = 0) -> Iterator[Server]:
    server = Server(files, ranges=ranges, break_first=break_first)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


SETS = {dataset.name: dataset for dataset in (CIFAR100, OXFORD102, UCM_CAPTION)}
