"""CPU seconds of opening a folder of 20,000 photos: the first time, and when its pixels lie in the cache.

    OMP_NUM_THREADS=1 python benchmarks/opening.py

The folder is made anew: JPEG files of 64 x 64 pixels, flowers of the garden that are shifted so that no two are equal,
nine tenths to train with and one tenth to test. Each row is a process of its own, whose imports do not count. The floor
is the decoding alone, one file after the other. Kept in results/opening.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from kka.common.files import write_atomically

FILES = 20_000
AIMS = {"first": 4.0, "second": 1.0}
"""CPU seconds."""
RESULT = Path(__file__).parent / "results" / "opening.json"


def make(folder: Path, number: int) -> None:
    """The files."""
    from kka.data import open_task

    flowers = open_task("garden").normals
    for k in range(number):
        place = folder / ("test/good" if k % 20 == 0 else "test/odd" if k % 20 == 10 else "train/good")
        place.mkdir(parents=True, exist_ok=True)
        shifted = np.roll(flowers[k % len(flowers)], k // len(flowers), axis=1)
        Image.fromarray(shifted).save(place / f"{k:05}.jpg", quality=90)


def opened(folder: Path) -> float:
    """CPU seconds of opening it, in this process."""
    import kka.data.folder  # noqa: F401  # its imports do not count
    from kka.data import open_task

    started = time.process_time()
    open_task(str(folder), describe="a photo of a flower", size=64)
    return time.process_time() - started


def decoded(folder: Path) -> float:
    """CPU seconds of decoding its files."""
    from kka.common.images import decode

    files = sorted(folder.rglob("*.jpg"))
    decode(files[0], 64)
    started = time.process_time()
    for file in files:
        decode(file, 64)
    return time.process_time() - started


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--row", choices=("opened", "decoded"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.row:
        print({"opened": opened, "decoded": decoded}[asked.row](asked.folder))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        make(folder, asked.files)
        environment = os.environ | {"KKA_CACHE": str(Path(scratch) / "cache"), "OMP_NUM_THREADS": "1"}

        def row(kind: str) -> float:
            command = [sys.executable, __file__, "--row", kind, "--folder", str(folder)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            return round(float(done.stdout), 2)

        seconds = {"first": row("opened"), "second": row("opened"), "decoding alone": row("decoded")}
        kept = sum(file.stat().st_size for file in (Path(scratch) / "cache").rglob("*") if file.is_file())
    facts = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/opening.py", "files": asked.files, "cpu_seconds": seconds,
        "aims": AIMS, "cache_mb": round(kept / 2**20), "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }  # fmt: skip
    write_atomically(RESULT, json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
