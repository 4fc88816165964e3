"""The detectors of `kka run`, one after the other as they were against side by side as they are: seconds, as a ratio.

Both ways train the same detectors of the garden, with no anomalies and with two sets of noise, and in turn, so that
what else a busy machine does falls on both. Before: one process with all of PyTorch's threads. Now: as `kka run`
divides the machine. Scores of detectors that were trained side by side are compared with those of one after the other,
at the same number of threads, to the last bit.

    python benchmarks/side_by_side.py [--seeds 3] [--epochs 25] [--times 3]

Measurements in --out with the same settings on the same machine are kept; a killed run goes on. CPU alone.
"""

import argparse
import hashlib
import json
import os
import platform
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from kka.algorithm.controls import noise_images
from kka.algorithm.folder import ARM_SCORES
from kka.common.files import write_atomically
from kka.common.store import Store
from kka.config import RunConfig
from kka.data import open_task
from kka.deploy.anomalies import Anomalies
from kka.protocols import Images
from kka.run.comparison import compare
from kka.run.models import run_detector
from kka.run.training import Division
from kka.settings.deep_sad import DeepSADSettings
from kka.task import Task

ANOMALIES = 200


def measured(task: Task, anomalies: Images, config: RunConfig, division: Division | None) -> dict[str, Any]:
    """Train and score every arm with every seed. `division` None: as `kka run` chooses it."""
    chosen: list[Division] = []
    choose = Division.of

    def of(model: Any, **count: int) -> Division:
        chosen.append(division or choose(model, **count))
        return chosen[-1]

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(Division, "of", of),
        Store(Path(folder) / "run", config.as_dict()) as store,
    ):
        started = time.perf_counter()
        compare(
            task, [Anomalies(images=anomalies)], build=partial(run_detector, config), seeds=config.seeds,
            seed=config.seed, store=store,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        scores = sorted(store.root.rglob(ARM_SCORES))
        return {
            "processes": chosen[0].processes, "threads": chosen[0].threads, "seconds": round(seconds, 2),
            "detectors": len(scores), "peak_mb": store.ledger().totals.peak_mb,
            "scores": hashlib.sha256(b"".join(path.read_bytes() for path in scores)).hexdigest(),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=25, help="25: as make demo")
    parser.add_argument("--times", type=int, default=3, help="measurements of each way")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "side_by_side.json")
    asked = parser.parse_args()
    import torch

    budget = torch.get_num_threads()
    place = {
        "machine": platform.machine(), "cores": os.cpu_count(), "threads": budget, "torch": torch.__version__,
        "seeds": asked.seeds, "epochs": asked.epochs,
    }  # fmt: skip
    stored = json.loads(asked.out.read_text()) if asked.out.is_file() else {}
    if {name: stored.get(name) for name in place} != place:
        stored = {**place, "pairs": []}
    task = open_task("garden")
    task = Task(  # without the arm of real anomalies
        name=task.name, normals=task.normals, captions=task.captions, domain=task.domain, test=task.test
    )
    config = RunConfig(seeds=asked.seeds, sad=DeepSADSettings(epochs=asked.epochs, device="cpu"))
    anomalies = noise_images(task, ANOMALIES, seed=1)
    while len(stored["pairs"]) < asked.times:
        before = measured(task, anomalies, config, Division(1, budget))
        now = measured(task, anomalies, config, None)
        stored["pairs"].append({"before": before, "now": now, "load": round(os.getloadavg()[0], 1)})
        write_atomically(asked.out, json.dumps(stored, indent=1) + "\n")
        print(f"before {before['seconds']:.1f} s, now {now['seconds']:.1f} s", flush=True)
    if "alone" not in stored:
        division = Division(1, stored["pairs"][0]["now"]["threads"])
        stored["alone"] = measured(task, anomalies, config, division)
    stored["same"] = {stored["alone"]["scores"]} == {pair["now"]["scores"] for pair in stored["pairs"]}
    ratios = [pair["now"]["seconds"] / pair["before"]["seconds"] for pair in stored["pairs"]]
    found = {"median": median(ratios), "least": min(ratios), "most": max(ratios)}
    stored["ratio"] = {name: round(ratio, 3) for name, ratio in found.items()}
    write_atomically(asked.out, json.dumps(stored, indent=1) + "\n")
    print(f"now / before: {stored['ratio']}; the same figures: {stored['same']}")


if __name__ == "__main__":
    main()
