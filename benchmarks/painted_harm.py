"""Can a run notice that what it made does harm, without a test label? On tiles, with good and bad anomalies.

    OMP_NUM_THREADS=1 python benchmarks/painted_harm.py --data ../shared/data \\
        --weights mobilenetv2_100_in1k.safetensors

The task `tuning` of photos.py, two seeds; SimpleNet and DFM, and SAD, which takes no masks. Arms of painted.py, from
those that help to those that must harm: `normal` is normals, mirrored, called anomalous. Beside the true gain (AUROC of
blowhole and fray, less that of no anomalies) stand what a run could work out by itself: 100 painted photos that no arm
has trained with, made of the 120 photos held out, against these photos as they are: AUROC (`told`) and its change from
no anomalies; of the arm's own kind, likewise made of held out photos (`own`), and its change; and how far held-out
normals lie from those trained with, against no anomalies (`shift`: AUROC of held-out ones against training ones, one
half where they are alike).

Kept in results/painted_harm.json, row by row. Ends with Spearman's rho of each with the gain.
"""

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from painted import SIZE, Row, anomalies_of, apart, painted
from photos import Case, pictures
from scipy.stats import spearmanr

from kka.common.files import write_atomically
from kka.common.metrics import chance
from kka.deploy.anomalies import Anomalies, fit_anomalies
from kka.detectors import build_detector
from kka.seeding import derive_seed
from kka.settings.backbone import BackboneSettings

OUT = Path(__file__).parent / "results" / "painted_harm.json"
ARMS = (
    "none", "painted", "painted, no masks", "painted strong", "painted faint", "cutpaste", "other", "noise", "normal",
)  # fmt: skip
HELD = 100
SEEDS = (0, 1)
DETECTORS = ("simplenet", "sad", "dfm")


def made_of(arm: str, seed: int, normals: np.ndarray, data: Path) -> Anomalies | None:
    """The arm's anomalies; `normal`: 200 of the normals, mirrored, as copies are left out."""
    if arm != "normal":
        return anomalies_of(Row("tuning", "simplenet", arm, seed), normals, data, None)
    some = np.random.default_rng(derive_seed(seed, "arm")).permutation(len(normals))[:200]
    return Anomalies(images=np.ascontiguousarray(normals[some][:, :, ::-1]))


def measured(name: str, seed: int, data: Path, weights: Path) -> dict[str, dict[str, float]]:
    """The figures of each arm; `chance`: that the second outscores the first."""
    found = pictures(Case("tuning", "simplenet", SIZE), data)
    held = found.test[found.kinds == "good"]
    backbone = BackboneSettings(name="mobilenetv2_100", weights=str(weights), padding="same", mean=(0.5,), std=(0.5,))
    how: dict[str, Any] = {} if name == "sad" else {"overrides": ["size=128", "crop=128"], "backbone": backbone}
    fresh = painted(held, np.random.default_rng(derive_seed(seed, "fresh")))[0].images[:HELD]
    rows: dict[str, dict[str, float]] = {}
    plain: Any = None
    for arm in ARMS:
        detector: Any = build_detector(name, preset="cpu", seed=seed, **how)
        given = made_of(arm, seed, found.normals, data)
        fit_anomalies(detector, found.normals, given, captions=["a tile"] * len(found.normals))
        plain = plain or detector
        good, odd = detector.score(held), detector.score(found.test[found.kinds != "good"])
        own = made_of("painted" if arm == "none" else arm, seed + 100, held, data)
        assert own is not None
        rows[arm] = {
            "auroc": chance(good, odd), "told": chance(good, detector.score(fresh)),
            "own": chance(good, detector.score(own.images[:HELD])),
            "own, without": chance(plain.score(held), plain.score(own.images[:HELD])),
            "shift": chance(detector.score(found.normals), good),
        }  # fmt: skip
        print(name, seed, arm, rows[arm], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(OUT.read_text())["rows"] if OUT.is_file() else []
    for seed, name in product(SEEDS, DETECTORS):
        key = {"detector": name, "seed": seed}
        if any(key.items() <= row.items() for row in rows):
            continue
        found = apart(lambda given=(name, seed, options.data, options.weights): measured(*given))  # type: ignore[misc]
        rows += [{**key, "arm": arm, **figures} for arm, figures in found.items()]
        write_atomically(OUT, json.dumps({"rows": rows}, indent=1) + "\n")
    rhos = {name: shown(name, [row for row in rows if row["detector"] == name]) for name in DETECTORS}
    write_atomically(OUT, json.dumps({"rho": rhos, "rows": rows}, indent=1) + "\n")


def shown(name: str, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Prints an arm a line; Spearman's rho of each measure with the gain."""
    plain = {row["seed"]: row for row in rows if row["arm"] == "none"}
    told = [
        {
            "arm": row["arm"], "gain": row["auroc"] - plain[row["seed"]]["auroc"],
            "told": row["told"], "told, change": row["told"] - plain[row["seed"]]["told"], "own": row["own"],
            "own, change": row["own"] - row["own, without"],
            "shift, change": row["shift"] - plain[row["seed"]]["shift"],
        }
        for row in rows if row["arm"] != "none"
    ]  # fmt: skip
    for arm in ARMS[1:]:
        own = [row for row in told if row["arm"] == arm]
        means = {key: round(100 * float(np.mean([row[key] for row in own])), 1) for key in own[0] if key != "arm"}
        print(name, arm, means)
    rho = {
        key: round(float(spearmanr([row[key] for row in told], [row["gain"] for row in told]).statistic), 2)
        for key in ("told", "told, change", "own", "own, change", "shift, change")
    }
    print(name, "rho with the gain", rho)
    return rho


if __name__ == "__main__":
    main()
