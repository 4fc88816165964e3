"""Writes docs/results.md and the README's table of results from the stored result files; it runs nothing.

    python benchmarks/results.py

What stands in benchmarks/results/ is made by `kka experiment …` (experiments.jsonl) and by the scripts beside this
one. The plain words come from benchmarks/results/words.md.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import anomalib_detectors
import fits
import garden_rounds
import painted
import recontrast_ablation
import sad_ablation
import selection
import simplenet_ablation

from kka.experiments import EXPERIMENTS, experiment
from kka.experiments.engine.arms import Arm
from kka.experiments.engine.cells import Results, Row
from kka.experiments.engine.choices import CHOICES
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.runner import estimate
from kka.experiments.engine.show import tables
from kka.experiments.engine.summary import as_text, complete, mean_over_tasks, rows_of, tasks_and_seeds
from kka.experiments.engine.tasks import DATASETS
from kka.experiments.hardness import cells as hardness_cells
from kka.experiments.table3 import cells as cells_of_table3

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DOCS = HERE.parent / "docs"
HEAD = 2
"""Lines of a table that has no rows."""
PLAN = Plan(datasets=tuple(DATASETS), seeds=(0,), scale="cpu", protocol="withheld", backbone="mobilenetv2_100")
BACKBONE = (
    "--backbone mobilenetv2_100 --backbone-weights FILE --backbone-padding same --backbone-mean 0.5 --backbone-std 0.5"
)
HOW = {
    "table3": "Mean over tasks of the mean over seeds, ± its 95 % interval over tasks; gains are paired by task and "
    "seed, p is Holm's over a column's comparisons. images: anomalies trained with. Controls: as many images of noise, "
    "of something else altogether (another data set, or textures) or real ones of the known classes as the first "
    "generation has; and, as many as KKA (3) in mode add, the first generation with random ones of the rounds' images "
    "in the place of hard ones, and real ones.",
    "table4": "",
    "table2": "The paper's column has another backbone, image size and language model: compare gains, not levels. Rows "
    "without figures have not been run. KKA joins by adding or by replacing, after the paper's number of rounds; noise "
    "is as many images of uniform noise as the first generation. anomaly images: trained with; images generated: those "
    f"that did not enter the pool included. Backbone: `{BACKBONE}`.",
    "hardness": "Of everything that the rounds of Table III's pools generated, in mode rep. images: trained with; "
    "choices by the share of hard ones are as many as the scarcer side has, at most 200. hard and relative distance "
    "(its median; below 1: hard): by the last judgement. Gains are paired by task and seed; p is Holm's over a "
    "detector's comparisons.",
    "leading": "At equal cost: each way writes and draws as many captions and pictures. hard drawn: the share of hard "
    "ones in what a round drew. Gains are paired by task and seed, p is Holm's.",
    "figure4": "",
    "ablation": "Tuning tasks, which none of the tables above holds. Each row stands beside the first generation and "
    "the loop's defaults on the very tasks and seeds that it has itself; gains are paired.",
}
"""What a reader must know beside each table."""
DRAWN = {"oxford102": ("drawing.steps=10", "images=diffusers:runs/models/oxford102")}
"""Data set -> the loop with a drawing model, as `kka images train` trains it on the classes that all tasks may know."""


def page(rows: Sequence[Row]) -> list[str]:
    """All of docs/results.md."""
    lines = [
        "# Results",
        "",
        "Written by `python benchmarks/results.py` from the files in `benchmarks/results/`. AUROC in %. Unless it says "
        "otherwise: scale `cpu` on two CPU cores, half of the anomaly classes withheld from language model and image "
        "bank (seen and unseen AUROC apart), the last epoch, no test label before the metrics. `kka experiment` "
        "runs any row; `kka experiment show` prints these tables.",
        "",
        (RESULTS / "words.md").read_text().strip(),
        "",
    ]
    heading = None
    for name, data, table in tables(PLAN, rows, list(HOW)):
        if not any(row.needs_pool for row in _rows_of(rows, experiment(name).cells, data)):
            continue  # controls serve several tables
        if name != heading:
            heading = name
            lines += [f"## {EXPERIMENTS[name]}", "", *([HOW[name], ""] if HOW[name] else [])]
        lines += [f"### {DATASETS[data].title}", "", _tasks(rows, name, data), "", *table, ""]
    of_photos = [*painted_photos(), *beside_anomalib(), *into_squares()]
    return [*lines, *drawn(rows), *of_photos, *drawing_model(), *figures(), *ablations(), *what_was_run(rows)]


def painted_photos() -> list[str]:
    """What painted anomalies are worth to detectors of photos, as `benchmarks/painted.py` stored it."""
    if not painted.OUT.is_file():
        return []
    rows = json.loads(painted.OUT.read_text())["rows"]
    lines = [
        "## Painted on a person's own photos", "",
        "`python benchmarks/painted.py`: 200 anomalies each, MobileNetV2, preset `cpu`, the last epoch. AUROC and "
        "AUPRO, of magnetic tiles of break, crack and uneven against the test set's good photos, which no choice has "
        "seen; of the others of other classes. over none: paired by seed, ± its 95 % interval where there are several. "
        "painted: random captions of the grammar, no loop. kka-0: captions of the language model `defects`; rep-2, "
        "add-2: after two rounds of `painted_runs.py`; share-0 to share-100: as many of what its mode rep generated, "
        "with so many % hard ones. The loop has no limit on the share of hard ones (`--max-hard-share 1`).", "",
    ]  # fmt: skip
    titles = {"tiles": "magnetic tiles", "flowers 77": "Oxford-102, 77", "aerial 19+20": "UCM-Caption, 19+20"}
    for task, normals, group in painted.TABLES:
        found = painted.table(rows, task, normals, group)
        if len(found) > HEAD:
            number = f", {normals} photos" if task == "tiles" else ""
            lines += [f"### {titles[task][:1].upper()}{titles[task][1:]}{number}", "", *found, ""]
            lines += ["Over detectors:", "", *painted.by_arm(rows, task, normals, group), ""]
    chosen = painted.table(rows, "tuning", 600, "all")
    if len(chosen) > HEAD:
        lines += [
            "### What the choices were made on", "",
            "480 photos; 120 others as good ones, against blowhole and fray. small: masks of at most a quarter of the "
            "photo.", "", *chosen, "",
        ]  # fmt: skip
    return lines


def beside_anomalib() -> list[str]:
    """kka's detectors of photos beside anomalib's, as `benchmarks/anomalib_detectors.py` stored it."""
    if not anomalib_detectors.OUT.is_file():
        return []
    stored = json.loads(anomalib_detectors.OUT.read_text())
    return [
        "## Beside anomalib's detectors", "",
        f"`python benchmarks/anomalib_detectors.py`: kka's and, through `--detector anomalib:<model>`, anomalib's "
        f"({stored['anomalib']}), on normals alone, MobileNetV2, {stored['size']} pixels, one thread, the last epoch. "
        "AUROC in %, of the tiles over all five kinds. passes: over the normals of the tiles, and of the others; far "
        "fewer than anomalib recommends, so those rows are not what the methods can do.", "",
        *anomalib_detectors.table(stored["rows"]), "",
    ]  # fmt: skip


def into_squares() -> list[str]:
    """How photos become squares, as `benchmarks/fits.py` stored it."""
    if not fits.RESULT.is_file():
        return []
    stored = json.loads(fits.RESULT.read_text())
    shape = {name: f"{100 * value:.1f}" for name, value in stored["shape_alone"].items()}
    return [
        "## How photos become squares", "",
        "`python benchmarks/fits.py`: magnetic tiles, 300 normals, no anomalies, MobileNetV2, preset `cpu`; mean over "
        "seeds. A crop cuts the whole defect away from 122 of 392 photos. What the shape of a photo says by itself: "
        f"AUROC {shape['auroc']}, among good photos of like shape {shape['auroc_matched_shapes']}. Then rows of tiles "
        "at one height, of which one is defective: PatchCore at 256 pixels, 200 good rows.", "",
        *fits.tables(stored), "",
    ]  # fmt: skip


def drawing_model() -> list[str]:
    """How good the small drawing model is, as `kka images measure` stored it."""
    path = RESULTS / "drawing_oxford102.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_text())
    names = {"all": "words of the caption seen in the picture", "color": "of them colours", "shape": "of them shapes"}
    lines = [
        "## The drawing model: how good is it?", "",
        f"Oxford-102, {len(found['classes'])} known classes, {found['size']} pixels; {found['pictures']} captions of "
        f"test pictures of these classes, drawn, beside as many real ones ({found['features']}). "
        "`kka images measure MODEL --pictures 300 --backbone.name …`", "",
        "| | drawn | real | by chance |", "|---|---:|---:|---:|",
    ]  # fmt: skip
    for kind, title in names.items():
        mean = found["means"][kind]
        lines.append(f"| {title}, AUROC | {100 * mean['drawn_auroc']:.1f} | {100 * mean['real_auroc']:.1f} | 50 |")
    lines.append(f"| Fréchet distance to real ones | {found['frechet_drawn']:.0f} | {found['frechet_real']:.0f} | |")
    for copies in found["copies"]:
        share = 100 * copies["drawn_nearer"]
        lines.append(f"| nearer to a training picture ({copies['of']}) than 1 % of real ones | {share:.1f} % | 1 % | |")
    return [*lines, ""]


def drawn(rows: Sequence[Row]) -> list[str]:
    """Table III where the image model draws, as far as it is stored."""
    lines = []
    for data, loop in DRAWN.items():
        plan = dataclasses.replace(PLAN, datasets=(data,), loop=loop)
        cells = cells_of_table3(plan)
        found = rows_of(rows, cells)
        if not any(row.variant for row in found):
            continue
        (table,) = [lines for *_, lines in tables(plan, rows, ["table3"])]
        tasks = ", ".join(dict.fromkeys(row.normal for row in complete(found)))
        lines += [
            "## Table III where the image model draws", "",
            "The bank of real pictures gives way to a drawing model that was trained from nothing on the pictures and "
            "captions of the classes that every task may know (`kka images train`, 44 of 102 classes, 32 pixels). "
            "Nothing that the detectors of the KKA rows train with is a real picture of another class. Normals' "
            "captions: as many pictures drawn of the normals' own captions, labelled anomalous, which shows what of a "
            "gain is the generator's traces.", "",
            f"### {DATASETS[data].title}", "",
            f"Normal: {tasks}. `kka experiment table3 --dataset {data} --loop {' '.join(loop)}`", "", *table, "",
            "![Drawn by round, hard ones framed](figures/drawn-rounds.png)", "",
            "Normal: 26. What each round drew, with the share of hard ones, framed. `kka experiment figure3 --tasks 26 "
            f"--dataset {data} --loop {' '.join(loop)}`", "",
        ]  # fmt: skip
        if any(row.arm in CHOICES and row.variant for row in rows_of(rows, hardness_cells(plan))):
            sad = [row for row in rows if row.detector == "sad"]
            (choices,) = [lines for *_, lines in tables(plan, sad, ["hardness"])]
            had = [line for line in choices if "nothing yet" not in line]
            lines += ["What a hard one is worth there, at equal number. " + HOW["hardness"], "", *had, ""]
    return lines


def what_was_run(rows: Sequence[Row]) -> list[str]:
    """Of each table with three seeds: what is stored, and what the rest would take."""
    lines = [
        "## What was run, and what was not", "",
        "With three seeds on the reported tasks at scale `cpu`; times are for one core, with pools. Not run at all: "
        "scale `full` (published settings; needs a GPU), the paper's own protocol (`--protocol paper`), all "
        "superclasses of CIFAR-100 (`--tasks all`), a large language model and a text-to-image model (`--loop lm=… "
        "images=…`). Table II with the backbone's options as above.", "",
        "| command | cells stored | left | time for the rest |", "|---|---:|---:|---:|",
    ]  # fmt: skip
    same = ("dataset", "normal", "detector", "arm", "seed", "protocol", "scale", "variant")  # whatever the backbone
    done = {tuple(getattr(row, field) for field in same) for row in rows}
    for name in HOW:
        module = experiment(name)
        for data in module.datasets(tuple(DATASETS)):
            plan = dataclasses.replace(PLAN, datasets=(data,), seeds=range(3), chosen=())
            cells = module.cells(plan)
            if not any(tuple(getattr(cell, field) for field in same) in done for cell in cells if cell.needs_pool) and (
                DATASETS[data].embedded or name in ("hardness", "leading")
            ):
                continue
            left = [cell for cell in cells if tuple(getattr(cell, field) for field in same) not in done]
            pools = {(c.normal, c.seed, c.trained_with.mode, c.variant): c for c in left if c.needs_pool}
            hours = (estimate(left, rows, list(pools.values())) or 0.0) / 3600
            command = f"kka experiment {name}" + ("" if module.dataset else f" --dataset {data}")
            lines.append(f"| `{command} --seeds 3` | {len(cells) - len(left)} | {len(left)} | {hours:.1f} h |")
    return [*lines, ""]


def _tasks(rows: Sequence[Row], name: str, data: str) -> str:
    found = list(dict.fromkeys(row.normal for row in _rows_of(rows, experiment(name).cells, data)))
    return f"Normal: {', '.join(found) or 'nothing run yet'}. `kka experiment {name} --dataset {data}`"


def figures() -> list[str]:
    """The pictures in docs/figures."""
    lines = ["## Figures", ""]
    for path in sorted((DOCS / "figures").glob("figure*.png")):
        name, _, data = path.stem.partition("-")
        title = EXPERIMENTS[name] + (f" ({DATASETS[data].title})" if data else "")
        lines += [f"**{title}**", "", f"![{title}](figures/{path.name})", ""]
    return lines


def ablations() -> list[str]:
    """The detectors' choices, and the benchmark beside other libraries, as far as they are stored."""
    lines = []
    scripts = {
        "Where the image model draws: the garden": garden_rounds,
        "Which anomalies to train with": selection,
        "Deep SAD: the choices": sad_ablation,
        "SimpleNet: the choices": simplenet_ablation,
        "ReContrast: the choices": recontrast_ablation,
    }
    for title, module in scripts.items():
        if module.OUT.is_file():
            stored = json.loads(module.OUT.read_text())
            names = ", ".join(dict.fromkeys(row["task"] for row in stored["runs"] if "task" in row))
            lines += [f"## {title}", "", f"`{stored['command']}`" + (f"; tuning tasks {names}." if names else "."), ""]
            lines += [module.table(stored["runs"]), ""]
    path = RESULTS / "feature_cache.json"
    if path.is_file():
        found = json.loads(path.read_text())
        once, again = found["cached"], found["recomputed"]
        lines += [
            "## SimpleNet: features computed once", "",
            f"`python benchmarks/feature_cache.py`, Oxford-102 {'+'.join(found['normal'])}, {found['epochs']} epochs, "
            f"one thread: the fit takes {once['fit_s']:.0f} s, {found['fit_ratio']:.1f} times less than with features "
            f"computed anew at every epoch ({again['fit_s']:.0f} s, from two timed epochs). An epoch takes "
            f"{once['epoch_s']:.2f} s, {found['epoch_ratio']:.0f} times less, at "
            f"{100 * found['share_of_floor']:.0f} % of the floor by arithmetic and bandwidth "
            f"({found['floor']['epoch_s']:.2f} s).", "",
        ]  # fmt: skip
    path = RESULTS / "detectors.json"
    if path.is_file():
        import detectors

        stored = json.loads(path.read_text())
        lines += ["## Beside other libraries", "", "`python benchmarks/detectors.py`, one thread of two CPU cores.", ""]
        lines += [*detectors.table(stored["rows"]), ""]
    return lines


def readme(rows: Sequence[Row]) -> list[str]:
    """The README's tables: the arms that a newcomer asks for first, and each detector alone and with KKA."""
    own = {name: _rows_of(rows, cells_of_table3, name) for name in DATASETS}
    own = {name: found for name, found in own.items() if found and not DATASETS[name].embedded}
    lines = [
        "AUROC in % with half of the anomaly classes withheld from language model and image bank; ± is the 95 %",
        "interval over tasks (`kka experiment table3`):",
        "",
        "| Deep SAD trained with | " + " | ".join(DATASETS[name].title for name in own) + " |",
        "|---|" + "---:|" * len(own),
    ]
    for arm in ("none", "noise", "other", "add-3"):
        if not any(row.arm == arm for found in own.values() for row in found):
            continue
        figures = [as_text(mean_over_tasks(own[name], "sad", arm)) for name in own]
        lines.append(f"| {Arm.named(arm).title} | " + " | ".join(figures) + " |")
    counts = [tasks_and_seeds([row for row in own[name] if row.arm == "rep-3"]) for name in own]
    return [*lines, "| *tasks × seeds* | " + " | ".join(counts) + " |"]


def _rows_of(rows: Sequence[Row], cells, name: str) -> list[Row]:  # type: ignore[no-untyped-def]
    return complete(rows_of(rows, cells(dataclasses.replace(PLAN, datasets=(name,)))))


def main() -> None:
    rows = Results(RESULTS / "experiments.jsonl").rows()
    (DOCS / "results.md").write_text("\n".join(page(rows)).rstrip() + "\n")
    path = HERE.parent / "README.md"
    before, _, rest = path.read_text().partition("<!-- results -->\n")
    _, end, after = rest.partition("<!-- /results -->")
    path.write_text(before + "<!-- results -->\n" + "\n".join(readme(rows)) + "\n" + end + after)
    print(DOCS / "results.md", path)


if __name__ == "__main__":
    main()
