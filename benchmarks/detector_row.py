"""One row of `detectors.py`, in a process of its own: a method trained and scored once on one task.

    python benchmarks/detector_row.py '{"method": "simplenet", "images": "….npz", …}'

The last line that it prints is the row, as JSON. Peak memory is the kernel's record of the largest resident size
(VmHWM, Linux), beside the resident size once libraries and images are loaded: the difference is the method's own.

Both libraries start warm: a fit on a few images comes first. Once time and memory are known, the FLOP of a whole fit
follow from those of one and of two passes over a few images, which give the constant part (features that are computed
once) and that of a pass.
"""

import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from kka.common.machine import matrix_rate
from kka.common.metrics import auroc
from kka.detectors import build_detector
from kka.settings.backbone import BackboneSettings

WARM = 16
BATCH = 64
"""Images that are scored at once: as kka does."""
OWN_EPOCHS = {"supersimplenet": 300}
"""What anomalib recommends; for reverse distillation it names none."""
Score = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, np.ndarray | None, int | None], Score]
"""Of normals, anomalies, and passes (None: all of them)."""


def cpu_settings(name: str) -> Any:
    """The settings of kka's detector of that name for a CPU."""
    return build_detector(name).PRESETS["cpu"]  # type: ignore[attr-defined]


def own(name: str, row: dict[str, Any], backbone: BackboneSettings) -> tuple[Fit, dict[str, Any], int]:
    """Of a detector of kka: its fit, its settings, and its passes (epochs or iterations)."""
    preset = cpu_settings(name)
    fields = {field.name for field in dataclasses.fields(preset)}
    passes = "iterations" if "iterations" in fields else "epochs"
    changed = [f"{key}={row['size']}" for key in ("size", "crop") if key in fields]
    if row.get("strides") and name == "simplenet":
        changed.append(f"strides={','.join(map(str, row['strides']))}")

    def build(count: int | None) -> Any:
        short = [] if count is None else [f"{passes}={count}"]
        return build_detector(name, preset="cpu", overrides=[*changed, *short], backbone=backbone, seed=row["seed"])

    def fit(normals: np.ndarray, anomalies: np.ndarray | None, count: int | None) -> Score:
        os.environ["KKA_CACHE"] = tempfile.mkdtemp(dir=row["scratch"])  # no features of an earlier fit
        fitted: Score = build(count).fit(normals, anomalies).score
        return fitted

    settings = build(None).settings
    return fit, dataclasses.asdict(settings), getattr(settings, passes)


def flops(work: Callable[[], object]) -> int:
    """Of matrix products and convolutions, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def fit_flops(fit: Fit, normals: np.ndarray, anomalies: np.ndarray | None, passes: int, by_epoch: bool) -> float:
    """FLOP of a whole fit, from those of one and two passes over a few images."""
    few = anomalies[:WARM] if anomalies is not None else None
    used = len(normals[:WARM]) + (len(few) if few is not None else 0)
    one = flops(lambda: fit(normals[:WARM], few, 1))
    each = flops(lambda: fit(normals[:WARM], few, 2)) - one
    images = len(normals) + (len(anomalies) if anomalies is not None else 0)
    share = len(normals) / len(normals[:WARM]) if by_epoch else 1.0
    return (one - each) * images / used + each * share * passes


def memory_mb() -> dict[str, float]:
    """MiB: the largest resident size so far, and that of now."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {key: int(lines[name].split()[0]) / 1024 for key, name in (("peak", "VmHWM"), ("now", "VmRSS"))}


def measured(row: dict[str, Any]) -> dict[str, Any]:
    """The row's figures."""
    images = np.load(row["images"])
    normals, test, is_anomaly = images["normals"], images["test"], images["is_anomaly"]
    anomalies = images["anomalies"] if row["anomalies"] else None
    name = row["method"]
    backbone = BackboneSettings(**{k: tuple(v) if isinstance(v, list) else v for k, v in row["backbone"].items()})
    if row["library"] == "kka":
        fit, settings, passes = own(name, row, backbone)
        by_epoch = "iterations" not in settings
    else:
        from anomalib_methods import method

        passes, by_epoch = row["epochs"], True
        fit, settings = method(name, row, backbone, passes)
    loaded = memory_mb()["now"]

    fit(normals[:WARM], anomalies[:WARM] if anomalies is not None else None, 1)(test[:WARM])
    start, start_cpu = time.perf_counter(), time.process_time()
    score = fit(normals, anomalies, None)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    start = time.perf_counter()
    scores = score(test)
    scoring = time.perf_counter() - start
    peak = memory_mb()["peak"]
    whole = fit_flops(fit, normals, anomalies, passes, by_epoch)
    score_flops = flops(lambda: score(test[:WARM])) / len(test[:WARM])
    rate = matrix_rate(torch.device("cpu"), torch.float32)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "passes": passes,
        "pass": "epoch" if by_epoch else "iteration",
        "seconds_at_own_epochs": seconds / passes * OWN_EPOCHS[name] if name in OWN_EPOCHS else None,
        "images_per_s": len(test) / scoring,
        "peak_mb": peak,
        "loaded_mb": loaded,
        "auroc": auroc(scores, is_anomaly),
        "matrix_gflops": rate / 1e9,
        "floor_seconds": whole / rate,
        "floor_images_per_s": rate / score_flops,
        "settings": settings,
    }


if __name__ == "__main__":
    print(json.dumps(measured(json.loads(sys.argv[1]))))
