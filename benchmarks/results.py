"""The figures of docs/results.md: KKA (rep) and KKA (add) beside their controls, on several tasks and seeds.

    python benchmarks/results.py run oxford102 --data ../shared/data/oxford102   # each run resumes where it stopped
    python benchmarks/results.py run garden
    python benchmarks/results.py table                                          # docs/results.md from stored results

Every (task, seed) is a run of its own: other captions, pictures, evaluators and detectors. Half of the anomaly
classes are withheld from language model and bank (`--unseen 0.5`). Two processes of one thread each run side by
side: on small networks that does more work than two threads. Hyperparameters were chosen on other classes (see
docs/LOG.md).
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kka.config import RunConfig
from kka.console import arm_label
from kka.metrics import mean_ci95

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TASKS = {
    "oxford102": ("10", "46", "51", "77", "89"),
    "garden": ("windflower", "marigold", "pansy", "daisy", "starflower"),
}
SHARED = ("task", "rounds/0", *(f"rounds/1/{s}" for s in ("evaluator", "dpo", "captions", "images", "scores")))
SHARED_ARMS = ("none", "noise", "kka-0", "real")
LM_STEPS = 400
"""Half the default: enough for captions of this grammar, in four minutes."""
ORDER = ("none", "noise", "kka-0", "kka-1", "kka-2", "real")


def config_of(data: str, normal: str, seed: int, mode: str, lm: str) -> RunConfig:
    """The run behind one cell: the defaults, but for one detector an arm and a longer autoencoder."""
    same = {"data": data, "normal": (normal,), "lm": lm, "unseen": 0.5, "seeds": 1, "autoencoder_epochs": 50}
    return RunConfig(**same, seed=seed, mode=mode)  # type: ignore[arg-type]


def common_language_model(name: str, data: str, work: Path) -> str:
    """One language model for all tasks, trained on the captions of the classes that every one of them may know.

    It knows no normal class and no class that is withheld in any task: less than a model of each task's own would.
    """
    if name == "garden":
        return "garden"
    from kka.data import open_task
    from kka.models import train_corpus_model

    out = work / f"{name}-lm"
    if not (out / "config.json").is_file():
        tasks = [open_task(data, normal=(normal,), unseen=0.5) for normal in TASKS[name]]
        kinds = set.intersection(*(set(task.knowledge.kinds) for task in tasks if task.knowledge is not None))
        first = tasks[0].knowledge
        assert first is not None
        keep = [i for i, kind in enumerate(first.kinds) if kind in kinds]
        shared = dataclasses.replace(
            first,
            images=first.images[keep],
            captions=tuple(first.captions[i] for i in keep),
            kinds=tuple(first.kinds[i] for i in keep),
        )
        work.mkdir(parents=True, exist_ok=True)
        task = dataclasses.replace(tasks[0], knowledge=shared)
        print(train_corpus_model(task, out, seed=0, steps=LM_STEPS), flush=True)
    return f"hf:{out}"


def run_one(data: str, name: str, normal: str, seed: int, mode: str, work: Path, lm: str) -> dict[str, object]:
    """One run. The modes of one (task, seed) part at the pool of round 1; what comes before is shared."""
    out = work / f"{name}-{normal}-{seed}-{mode}"
    config = config_of(data, normal, seed, mode, lm)
    if not (out / "summary.json").is_file():
        if mode == "add" and not (out / "config.yaml").is_file():
            _share(work / f"{name}-{normal}-{seed}-rep", out, config)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "one", json.dumps(config.as_dict()), str(out)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{out}: {done.stderr[-2000:]}")
    summary = json.loads((out / "summary.json").read_text())
    return {"normal": normal, "seed": seed, "mode": mode, **_figures(summary)}


def _share(source: Path, out: Path, config: RunConfig) -> None:
    import yaml

    out.mkdir(parents=True)
    for stage in (*SHARED, *(f"arms/{arm}" for arm in SHARED_ARMS)):
        if (source / stage).is_dir():
            shutil.copytree(source / stage, out / stage)
    (out / "config.yaml").write_text(yaml.safe_dump(config.as_dict(), sort_keys=False))


def _figures(summary: dict) -> dict[str, object]:
    names = ("auroc", "seen", "unseen", "aupr", "fpr95")
    return {
        "task": summary["task"]["name"],
        "normals": summary["task"]["normals"],
        "arms": {
            arm: {name: figures[name]["mean"] for name in names if name in figures}
            for arm, figures in summary["arms"].items()
        },
        "rounds": summary["rounds"],
        "seconds": round(sum(summary["seconds"].values())),
    }


def run_all(name: str, data: str, seeds: int, modes: list[str], work: Path, jobs: int) -> None:
    """All tasks, seed by seed, mode by mode; the result file is written anew after each run."""
    cells = [(normal, seed, mode) for mode in modes for seed in range(seeds) for normal in TASKS[name]]
    rows: list[dict[str, object]] = []
    RESULTS.mkdir(exist_ok=True)
    lm = common_language_model(name, data, work)
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(run_one, data, name, *cell, work, lm) for cell in cells]
        try:
            for future, (normal, seed, mode) in zip(waiting, cells, strict=True):
                rows.append(future.result())
                command = f"python benchmarks/results.py run {name} --seeds {seeds} --modes {' '.join(modes)}"
                (RESULTS / f"{name}.json").write_text(json.dumps({"command": command, "runs": rows}, indent=1) + "\n")
                print(f"{name} normal {normal} seed {seed} {mode}: {len(rows)} of {len(cells)} runs", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def by_task(rows: list[dict], mode: str, arm: str, figure: str) -> dict[str, list[float]]:
    """Task -> the figure with each seed."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["mode"] == mode and figure in row["arms"].get(arm, {}):
            found.setdefault(row["normal"], []).append(row["arms"][arm][figure])
    return found


def cell(values: dict[str, list[float]]) -> str:
    """Mean over tasks of the mean over seeds, and its 95 % interval over tasks, in percent."""
    if not values:
        return "–"
    mean, half = mean_ci95([float(np.mean(v)) for v in values.values()])
    return f"{100 * mean:.1f}" + ("" if half is None else f" ± {100 * half:.1f}")


def gain(rows: list[dict], mode: str, arm: str, base: str, figure: str = "auroc") -> str:
    """The paired gain of an arm over another in points, with its 95 % interval over all (task, seed) pairs."""
    a, b = (by_task(rows, mode, x, figure) for x in (arm, base))
    differences = [x - y for task in a for x, y in zip(a[task], b[task], strict=True)]
    if not differences:
        return "–"
    mean, half = mean_ci95(differences)
    return f"{100 * mean:+.1f}" + ("" if half is None else f" ± {100 * half:.1f}")


def section(name: str, title: str) -> list[str]:
    stored = json.loads((RESULTS / f"{name}.json").read_text())
    rows = stored["runs"]
    tasks = list(dict.fromkeys(row["normal"] for row in rows))
    counts = {len([r for r in rows if r["normal"] == t and r["mode"] == "rep"]) for t in tasks}
    lines = [
        f"## {title}",
        "",
        f"`{stored['command']}`: normal {', '.join(tasks)}; {min(counts)}"
        + (f" to {max(counts)}" if len(counts) > 1 else "")
        + f" seeds each ({len(rows)} runs in all). AUROC in %, mean over tasks of the mean over "
        "seeds, ± its 95 % interval over tasks (the tasks differ much; the paired gains below are the sharper figure).",
        "",
        "| trained with | rep: all | seen | unseen | add: all | seen | unseen |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in ORDER:
        cells = [cell(by_task(rows, m, arm, f)) for m in ("rep", "add") for f in ("auroc", "seen", "unseen")]
        lines.append(f"| {arm_label(arm)} | " + " | ".join(cells) + " |")
    lines += ["", "Paired gains in points, ± 95 % interval over (task, seed) pairs:", ""]
    lines += ["| gain | rep | add |", "|---|---|---|"]
    pairs = (("kka-0", "none"), ("kka-0", "noise"), ("kka-1", "kka-0"), ("kka-2", "kka-0"), ("kka-2", "real"))
    for arm, base in pairs:
        cells = [gain(rows, mode, arm, base) for mode in ("rep", "add")]
        lines.append(f"| {arm_label(arm)} over {arm_label(base)} | " + " | ".join(cells) + " |")
    lines += ["", "By normal class (KKA (rep), mean over seeds):", ""]
    lines += ["| normal | " + " | ".join(arm_label(arm) for arm in ORDER) + " |", "|---" * (len(ORDER) + 1) + "|"]
    for task in tasks:
        means = [by_task(rows, "rep", arm, "auroc").get(task) for arm in ORDER]
        lines.append(f"| {task} | " + " | ".join("–" if m is None else f"{100 * np.mean(m):.1f}" for m in means) + " |")
    return [*lines, "", *shares(rows), ""]


def shares(rows: list[dict]) -> list[str]:
    """Hard anomalies by round, and what DPO did."""
    lines = ["Hard anomalies and preference tuning by round (mean over runs, KKA (rep)):", ""]
    lines += ["| round | hard among fresh | hard in the pool | entered | DPO margin | DPO accuracy | KL to base |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for number in range(3):
        facts = [r for row in rows if row["mode"] == "rep" for r in row["rounds"] if r["round"] == number]
        dpo = [f["dpo"] for f in facts if f.get("dpo", {}).get("tuned")]

        def mean(values: list, style: str) -> str:
            present = [v for v in values if v is not None]
            return style.format(np.mean(present)) if present else "–"

        lines.append(
            f"| {number} | {mean([f['hard_share_fresh'] for f in facts], '{:.0%}')} "
            f"| {mean([f['hard_share_pool'] for f in facts], '{:.0%}')} "
            f"| {mean([f.get('entered') for f in facts], '{:.0f}')} "
            f"| {mean([d['margin'] for d in dpo], '{:.2f}')} | {mean([d['accuracy'] for d in dpo], '{:.0%}')} "
            f"| {mean([d['kl_to_base'] for d in dpo], '{:.1f}')} |"
        )
    return lines


def table() -> None:
    """Write docs/results.md from the stored result files and the plain words beside them."""
    lines = ["# Results", "", "Written by `python benchmarks/results.py table` from `benchmarks/results/*.json`.", ""]
    words = RESULTS / "words.md"
    if words.is_file():
        lines += [words.read_text().strip(), ""]
    for name, title in (("oxford102", "Oxford-102 (64×64, stand-in captions)"), ("garden", "The embedded garden")):
        if (RESULTS / f"{name}.json").is_file():
            lines += section(name, title)
    lines += detectors()
    path = HERE.parent / "docs" / "results.md"
    path.write_text("\n".join(lines).rstrip() + "\n")
    readme = HERE.parent / "README.md"
    before, _, rest = readme.read_text().partition("<!-- results -->\n")
    _, end, after = rest.partition("<!-- /results -->")
    readme.write_text(before + "<!-- results -->\n" + "\n".join(readme_table()) + "\n" + end + after)
    print(path, readme)


def detectors() -> list[str]:
    """Table II beside the paper's, as far as `kka experiment table2` has stored it."""
    from kka.experiments import table2
    from kka.experiments.cells import Results
    from kka.experiments.tasks import DATASETS

    rows = [r for r in Results(RESULTS / "experiments.jsonl").rows() if r["scale"] == "cpu" and not r["variant"]]
    lines = [
        "## Five detectors, with and without KKA",
        "",
        "`kka experiment table2 --scale cpu` with MobileNetV2 (ImageNet weights) for detectors that have a backbone "
        "and half of the anomaly classes withheld; AUROC in %, ± the 95 % interval over tasks. The paper's column has "
        "another backbone, image size and language model: compare gains, not levels. Rows without figures have not "
        "been run. KKA joins by adding or by replacing, after the paper's number of rounds.",
        "",
    ]
    for name, data in DATASETS.items():
        tasks = sorted({r["normal"] for r in rows if r["dataset"] == name})
        lines += [f"### {data.title}", "", f"Normal: {', '.join(tasks) or 'nothing run yet'}.", ""]
        lines += [*table2.table(rows, name), ""]
    return lines


def readme_table() -> list[str]:
    """The README's table: the arms that a newcomer asks for first."""
    rows = json.loads((RESULTS / "oxford102.json").read_text())["runs"]
    lines = [
        "AUROC in %, Oxford-102 with half of the anomaly classes withheld from language model and image bank; normal",
        f"classes {', '.join(TASKS['oxford102'])}, three runs each; ± is the 95 % interval over classes",
        "(`python benchmarks/results.py run oxford102`):",
        "",
        "| Deep SAD trained with | all | withheld classes |",
        "|---|---|---|",
    ]
    names = {"kka-0": "KKA (0): the first generation", "kka-2": "KKA (2): after two rounds (rep)"}
    for arm in ("none", "noise", "kka-0", "kka-2", "real"):
        cells = [cell(by_task(rows, "rep", arm, figure)) for figure in ("auroc", "unseen")]
        lines.append(f"| {names.get(arm, arm_label(arm))} | " + " | ".join(cells) + " |")
    first, later = gain(rows, "rep", "kka-0", "none"), gain(rows, "rep", "kka-2", "kka-0")
    gains = f"KKA (0) gains {first} points over no anomalies, paired over all runs; KKA (2) gains {later} over KKA (0)."
    lines += ["", gains]
    lines.append("Where that interval spans zero the rounds' gain is not shown; see the log for why.")
    return [*lines, "", *readme_detectors()]


def readme_detectors() -> list[str]:
    """The README's second table: each detector alone and with KKA, where both are stored."""
    from kka.experiments.cells import Results
    from kka.experiments.summary import counted, mean_over_tasks, written
    from kka.experiments.summary import gain as paired_gain
    from kka.experiments.table2 import DETECTORS
    from kka.experiments.tasks import DATASETS

    rows = [r for r in Results(RESULTS / "experiments.jsonl").rows() if r["scale"] == "cpu" and not r["variant"]]
    lines = [
        "Each detector alone and with KKA (rep), half of the anomaly classes withheld, MobileNetV2 where there is a",
        "backbone (`kka experiment table2 --scale cpu`; ± is the 95 % interval over tasks, which are few):",
        "",
        "| detector | data | alone | with KKA | gain | tasks × seeds |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for detector, title in DETECTORS.items():
        for name, data in DATASETS.items():
            mine = [r for r in rows if r["dataset"] == name and r["detector"] == detector]
            arm = f"rep-{data.rounds}"
            difference = paired_gain(mine, detector, arm, "none")
            if difference is None:
                continue
            alone, joined = (written(mean_over_tasks(mine, detector, a)) for a in ("none", arm))
            number = counted([r for r in mine if r["arm"] == arm])
            lines.append(
                f"| {title} | {data.title} | {alone} | {joined} | {written(difference, signed=True)} | {number} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("name", choices=TASKS)
    runs.add_argument("--data", default="garden")
    runs.add_argument("--seeds", type=int, default=3)
    runs.add_argument("--modes", nargs="+", choices=("rep", "add"), default=["rep", "add"])
    runs.add_argument("--work", type=Path, default=Path("runs/results"))
    runs.add_argument("--jobs", type=int, default=2)
    one = commands.add_parser("one")
    one.add_argument("config")
    one.add_argument("out", type=Path)
    commands.add_parser("table")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run_all(arguments.name, arguments.data, arguments.seeds, arguments.modes, arguments.work, arguments.jobs)
    elif arguments.command == "one":
        from kka.run import run

        out: Path = arguments.out
        run(RunConfig.from_dict(json.loads(arguments.config)), out, resume=(out / "config.yaml").is_file())
    else:
        table()


if __name__ == "__main__":
    main()
