"""kka's detectors of photos beside models of anomalib, on the same photos, through one backbone, at one size.

    pip install 'kka[anomalib]'
    OMP_NUM_THREADS=1 python benchmarks/anomalib_detectors.py --data ../shared/data \\
        --weights mobilenetv2_100_in1k.safetensors

Magnetic tiles (600 normals; all five kinds of defect, with masks), and one class of flowers and one pair of aerial
photos as `photos.py` has them (100 normals, other classes' pictures). All see 128 pixels a side through MobileNetV2,
with normals alone. kka's are their preset `cpu` at that size. anomalib's are its defaults, but for:

- the backbone, of which layers of the same strides are taken as of a ResNet by default;
- the passes over the normals of models that are trained: 3 of the tiles, 15 of the others, 1,500 photos or more.
  anomalib recommends many more (`kka.detectors.anomalib.models`): their AUROC after so few is not that of the method;
- PatchCore's bank: 2,000 patches, as kka's keeps, in the place of a tenth of all, whose choice takes minutes;
- SuperSimpleNet's noise: its default, 0.015, is little beside the features of MobileNetV2, which deviate by 3 to 5. A
  row with the deviation of the normals' features stands beside it.

EfficientAD is not here: it needs a download. A row a process. Kept in results/anomalib_detectors.json, row by row;
rows that are there are not measured again. Image AUROC, AUPRO over all defects, CPU seconds of the training on one
thread, and the memory that it adds to what was loaded. `python benchmarks/results.py` writes the table.
"""

import argparse
import dataclasses
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detector_row import memory_mb
from photos import Case as PhotoCase
from photos import apart, by_kind, pictures

from kka.common.files import write_atomically
from kka.common.pixel_metrics import count_pixels
from kka.detectors import build_detector
from kka.settings.backbone import BackboneSettings

OUT = Path(__file__).parent / "results" / "anomalib_detectors.json"
TASKS = {"tiles": "Magnetic tiles", "flowers 77": "Oxford-102, 77", "aerial 19+20": "UCM-Caption, 19+20"}
SIZE = 128
PASSES = {"tiles": 3, "flowers 77": 15, "aerial 19+20": 15}
CORESET = {"tiles": 0.013, "flowers 77": 0.078, "aerial 19+20": 0.078}
"""Shares of the patches that make a bank of 2,000."""
TITLES = {
    "dfm": "DFM", "patchcore": "PatchCore", "simplenet": "SimpleNet", "recontrast": "ReContrast",
    "anomalib:patchcore": "PatchCore", "anomalib:mh_patchcore": "MH-PatchCore", "anomalib:padim": "PaDiM",
    "anomalib:dfm": "DFM", "anomalib:dfkde": "DFKDE", "anomalib:fre": "FRE", "anomalib:stfpm": "STFPM",
    "anomalib:patchflow": "PatchFlow", "anomalib:supersimplenet": "SuperSimpleNet",
}  # fmt: skip
TRAINED = ("anomalib:fre", "anomalib:stfpm", "anomalib:patchflow", "anomalib:supersimplenet")
"""Of anomalib's those that learn by gradients."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A detector on a task."""

    task: str
    detector: str
    noise: bool = False
    """SuperSimpleNet's noise as wide as the features deviate."""
    seed: int = 0

    def overrides(self, deviation: float | None) -> list[str]:
        """Of the preset `cpu`, or of anomalib's defaults."""
        given = [f"size={SIZE}"]
        if self.detector in ("dfm", "patchcore", "simplenet"):
            given.append(f"crop={SIZE}")
        if self.detector in TRAINED:
            given.append(f"epochs={PASSES[self.task]}")
        if self.detector == "anomalib:patchcore":
            given.append(f"coreset_sampling_ratio={CORESET[self.task]}")
        if self.noise:
            given.append(f"noise_std={deviation}")
        return given


def cases() -> list[Case]:
    """Cheap ones first, and last again with two more seeds."""
    cheap = [name for name in TITLES if name not in TRAINED and name != "recontrast"]
    dear = ["recontrast", *TRAINED]
    found = [Case(task, name) for task in TASKS for name in cheap]
    found += [Case(task, name) for name in dear[:-1] for task in TASKS]
    found += [Case(task, dear[-1], noise) for noise in (True, False) for task in TASKS]
    return found + [Case(task, name, seed=seed) for seed in (1, 2) for task in TASKS for name in cheap]


def built(case: Case, backbone: BackboneSettings, deviation: float | None) -> Any:
    """The detector, untrained."""
    preset = None if ":" in case.detector else "cpu"
    return build_detector(
        case.detector, preset=preset, overrides=case.overrides(deviation), backbone=backbone, seed=case.seed
    )


@torch.no_grad()
def deviation_of(case: Case, backbone: BackboneSettings, normals: np.ndarray) -> float:
    """Of the features of SuperSimpleNet's normals, the mean over channels."""
    detector = built(dataclasses.replace(case, noise=False), backbone, None)
    module = detector._built()
    from kka.detectors.anomalib.network import prepare_of

    prepare = prepare_of(detector._spec, SIZE, backbone)
    some = (torch.from_numpy(part) for part in np.array_split(normals[:100], 4))
    parts = [module.model.feature_extractor(prepare(part)) for part in some]
    return round(float(torch.cat(parts).std(dim=(0, 2, 3)).mean()), 2)


def measured(case: Case, data: Path, weights: Path) -> dict[str, Any]:
    """The figures of a row."""
    torch.set_num_threads(1)
    found = pictures(PhotoCase(case.task, "", SIZE), data)
    backbone = BackboneSettings(
        name="mobilenetv2_100", weights=str(weights), padding="same", mean=(0.5,), std=(0.5,)
    )
    deviation = deviation_of(case, backbone, found.normals) if case.noise else None
    detector = built(case, backbone, deviation)
    before = memory_mb()["now"]
    wall, cpu = time.perf_counter(), time.process_time()
    detector.fit(found.normals)
    row: dict[str, Any] = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall}
    row |= {"peak_mb": memory_mb()["peak"], "loaded_mb": before, "normals": len(found.normals), "deviation": deviation}
    cpu = time.process_time()
    row["auroc"] = by_kind(detector.score(found.test), found.kinds)["all"]
    row["score_ms"] = 1000 * (time.process_time() - cpu) / len(found.test)
    if found.masks is not None and hasattr(detector, "score_map"):
        masks, test = found.masks, found.test
        counts = count_pixels(len(test), lambda rows: detector.score_map(test[rows]), lambda rows: masks[rows])
        row["aupro"] = counts.figures(np.ones((1, len(test))))[0]["aupro"]
    return row


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown, a line a detector: over tasks the AUROC, and of the tiles AUPRO and what it costs."""
    head = ["detector", *TASKS.values(), "AUPRO, tiles", "passes", "CPU s, tiles", "ms a photo", "MB", "seeds"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    kinds = list(dict.fromkeys((row["detector"], row["noise"]) for row in rows))
    for name, noise in sorted(kinds, key=lambda kind: (list(TITLES).index(kind[0]), kind[1])):
        own = [row for row in rows if (row["detector"], row["noise"]) == (name, noise)]
        tiles = [row for row in own if row["task"] == "tiles"]
        title = TITLES[name] + (", noise of the features' deviation" if noise else "")
        title += " (anomalib)" if ":" in name else ""
        cells = [title, *(mean([100 * row["auroc"] for row in own if row["task"] == task]) for task in TASKS)]
        cells.append(mean([100 * row["aupro"] for row in tiles if "aupro" in row]))
        cells.append(f"{PASSES['tiles']}, {PASSES['flowers 77']}" if name in TRAINED else "–")
        cells += [mean([row[key] for row in tiles], 0) for key in ("cpu_seconds", "score_ms")]
        cells.append(mean([row["peak_mb"] - row["loaded_mb"] for row in tiles], 0))
        cells.append(str(len({row["seed"] for row in own})))
        lines.append("| " + " | ".join(cells) + " |")
    return lines if rows else []


def mean(values: list[float], digits: int = 1) -> str:
    return f"{np.mean(values):.{digits}f}" if values else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--show", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    stored = json.loads(options.out.read_text()) if options.out.is_file() else {"rows": []}
    rows: list[dict[str, Any]] = stored["rows"]
    for case in [] if options.show else cases():
        spec = dataclasses.asdict(case)
        if any(all(row[key] == value for key, value in spec.items()) for row in rows):
            continue
        found = apart(lambda case=case: measured(case, options.data, options.weights))  # type: ignore[misc]
        rows.append(spec | found)
        whole = {"anomalib": version("anomalib"), "backbone": options.weights.name, "size": SIZE, "rows": rows}
        write_atomically(options.out, json.dumps(whole, indent=1) + "\n")
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(*table(rows), sep="\n")


if __name__ == "__main__":
    import anomalib.models  # noqa: F401  # once, before the rows' processes begin

    main()
