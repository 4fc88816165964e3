"""Peak memory of `kka run` on the embedded world, and how it grows from 200 to 2,000 generated images.

Floor of the growth: the pixels themselves, 1,800 images of 64 x 64 x 3 bytes = 22 MB, held twice (fresh and pool).
Each run is a process of its own; the figure is the kernel's record of its largest resident size.

    python benchmarks/memory.py --out benchmarks/results/memory.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = """
import resource, sys
from kka.cli import main
code = main(sys.argv[1:])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def peak_mb(images: int, folder: Path) -> float:
    """MiB of a run that generates `images` in round 0 and as many in round 1, short trainings."""
    arguments = ["run", "--out", str(folder / str(images)), "--initial", str(images), "--fresh", str(images)]
    arguments += ["--rounds", "1", "--seeds", "1", "--sad.epochs", "2", "--sad.milestones", "1"]
    arguments += ["--language.dpo-steps", "4", "--autoencoder-epochs", "1"]
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return int(done.stdout.rsplit("PEAK", 1)[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        peaks = {images: peak_mb(images, Path(folder)) for images in (200, 2000)}
    result = {
        "peak_mb": {str(images): round(peak, 1) for images, peak in peaks.items()},
        "growth": round(peaks[2000] / peaks[200] - 1, 4),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
