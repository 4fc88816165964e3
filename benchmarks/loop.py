"""The loop alone, without detectors, where the image model draws whatever a caption says: kinds of the garden.

How the language model is led (steer), how many are made (best_of) and which enter (choose): what share of the fresh
pictures is hard, how many hard ones the pool holds in the end, and how unlike the captions are. The settings of one
kind and seed begin with the same round 0 and the same first evaluator, so that gains are paired.

    python benchmarks/loop.py --kinds windflower marigold --seeds 2

Figures are stored in results/loop.jsonl as they come; a killed run goes on. `--table` prints what is stored.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kka.algorithm.evaluator import ConfusionEvaluator
from kka.algorithm.folder import RunFolder, stage_name
from kka.algorithm.hardness import is_hard
from kka.algorithm.loop import rounds
from kka.algorithm.selection import in_band, kinds_of
from kka.common.cache import ImageCache
from kka.common.metrics import mean_ci95
from kka.common.store import Store
from kka.config import RunConfig
from kka.data import open_task
from kka.experiments.engine.summary import as_text
from kka.run.models import build_images, build_language, resolve
from kka.settings.deep_sad import DeepSADSettings

OUT = Path(__file__).parent / "results" / "loop.jsonl"
KINDS = ("windflower", "marigold", "daisy", "pansy", "starflower")
SETTINGS = [
    f"steer={steer},best_of={best_of},choose={choose}"
    for best_of in (1, 4) for choose in ("random", "nearest", "band") for steer in ("dpo", "examples", "none")
]  # fmt: skip
"""As `--loop` of an experiment has them."""
USUAL = SETTINGS[0]
SHARED = [*(stage_name(0, stage) for stage in ("representatives", "captions", "images")), stage_name(1, "evaluator")]
SAMPLE = 100
"""Captions among which the kinds are counted."""


def config_of(kind: str, seed: int, setting: str, last: int, epochs: int) -> RunConfig:
    """The run behind a row. `setting` may name any other setting of a run besides, such as pairs=pool."""
    plain = RunConfig(normal=(kind,), rounds=last, seed=seed, seeds=1, sad=DeepSADSettings(epochs=epochs)).as_dict()
    told = dict(part.split("=") for part in setting.split(","))
    return RunConfig.from_dict(plain | {k: int(v) if v.isdigit() else v for k, v in told.items()})


def run_one(config: RunConfig, out: Path, first: Path) -> list[dict[str, Any]]:
    """The figures of each round of the run in `out`; it begins as the run in `first` does."""
    task = open_task(config.data, normal=config.normal, seed=config.split_seed)
    specs = resolve(config, task)
    writer, painter = build_language(specs[0], config, task), build_images(specs[1], config, task)
    with Store(out, config.as_dict(), resume=RunFolder(out).begun) as store:
        if first != out:
            store.fork(first, SHARED)
        made = list(rounds(task, writer, painter, config=config, store=store, cache=ImageCache()))
        seconds = round(store.ledger().totals.seconds, 1)
    judge = ConfusionEvaluator.load(out / stage_name(1, "evaluator"), quantile=config.quantile)
    facts = [RunFolder(out).facts(each.number).as_dict() for each in made]  # by now round 0 is judged as well
    return [_figures(RunFolder(out), judge, fact) | {"seconds": seconds} for fact in facts]


def _figures(made: RunFolder, judge: ConfusionEvaluator, facts: dict[str, Any]) -> dict[str, Any]:
    number = facts["round"]
    fresh = made.fresh(number)
    own = made.judgements(number) or {}
    relative = np.array([own[entry.id] for entry in fresh.entries])
    alike = relative if number == 0 else judge.judge(fresh.images)
    some = np.random.default_rng(0).permutation(len(fresh))[:SAMPLE]
    hard = made.hard(number)
    return {
        "round": number, "fresh": len(fresh), "entered": facts.get("entered"), "closed": facts.get("closed"),
        "hard_fresh": facts["hard_share_fresh"],
        "hard_fresh_by_the_first": round(float(is_hard(alike).mean()), 4) if len(alike) else None,
        "in_band": round(float(in_band(relative).mean()), 4) if len(relative) else None,
        "median": round(float(np.median(alike)), 3) if len(alike) else None,
        "pool": facts["pool_size"], "hard_pool": None if hard is None else int(hard.sum()),
        "kinds_of_100": len(set(kinds_of([fresh.entries[i].caption for i in some]))),
        "dpo": {k: v for k, v in facts.get("dpo", {}).items() if k in ("train_pairs", "kl_to_base", "accuracy", "why")},
    }  # fmt: skip


def run_all(a: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each kind, seed and setting that is not stored."""
    done = {_key(row) for row in stored()}
    for seed in range(a.seeds):
        for kind in a.kinds:
            for setting in dict.fromkeys([*a.settings]):
                if (kind, seed, setting, a.rounds, a.epochs) in done:
                    continue
                config = config_of(kind, seed, setting, a.rounds, a.epochs)
                started, place = time.perf_counter(), a.work / f"{kind}-{seed}-{a.rounds}-{a.epochs}"
                first = place / a.settings[0]
                figures = run_one(config, place / setting, first)
                yield {
                    "kind": kind, "seed": seed, "setting": setting, "last": a.rounds, "epochs": a.epochs,
                    "rounds": figures, "wall_s": round(time.perf_counter() - started, 1),
                }  # fmt: skip


def stored() -> list[dict[str, Any]]:
    return [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.is_file() else []


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("kind", "seed", "setting", "last", "epochs"))


FIGURES = {
    "hard among the fresh": lambda row: 100 * _mean(row, "hard_fresh"),
    "by the first evaluator": lambda row: 100 * _mean(row, "hard_fresh_by_the_first"),
    "hard in the last pool": lambda row: row["rounds"][-1]["hard_pool"],
    "entered a round": lambda row: _mean(row, "entered"),
    "kinds among 100 captions": lambda row: _mean(row, "kinds_of_100"),
    "rounds closed": lambda row: sum(made["closed"] is not None for made in row["rounds"]),
    "pictures": lambda row: sum(made["fresh"] for made in row["rounds"]),
}
"""Title -> the figure of a row, over its rounds from 1 on; shares in %."""


def _mean(row: dict[str, Any], name: str) -> float:
    values = [made[name] for made in row["rounds"][1:] if made[name] is not None]
    return float(np.mean(values)) if values else float("nan")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: means over kinds and seeds with the 95 % interval over those, and the paired gain over the default."""
    by_setting: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
    for row in rows:
        by_setting.setdefault(row["setting"], {})[row["kind"], row["seed"], row["last"], row["epochs"]] = row
    by_first = FIGURES["by the first evaluator"]
    head = ["setting", "runs", *FIGURES, f"paired gain over {USUAL}, by the first evaluator"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for setting, found in by_setting.items():
        cells = [_text([figure(row) for row in found.values()]) for figure in FIGURES.values()]
        pairs = [key for key in found if key in by_setting.get(USUAL, {})]
        gains = [by_first(found[key]) - by_first(by_setting[USUAL][key]) for key in pairs]
        gain = "" if setting == USUAL or not gains else as_text(mean_ci95(gains), signed=True)
        lines.append("| " + " | ".join([setting, str(len(found)), *cells, gain]) + " |")
    return "\n".join(lines)


def _text(values: Sequence[float]) -> str:
    known = [value for value in values if np.isfinite(value)]
    return as_text(mean_ci95(known)) if known else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--settings", nargs="+", default=SETTINGS, metavar="NAME=VALUE,…")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=25, help="of the evaluator")
    parser.add_argument("--work", type=Path, default=Path("runs/loop"))
    parser.add_argument("--table", action="store_true", help="print what is stored, run nothing")
    a = parser.parse_args()
    for row in () if a.table else run_all(a):
        with OUT.open("a") as file:
            file.write(json.dumps(row) + "\n")
        shares = [made["hard_fresh_by_the_first"] for made in row["rounds"]]
        print(row["kind"], row["seed"], row["setting"], shares, f"{row['wall_s']} s", flush=True)
    print(table(stored()))


if __name__ == "__main__":
    main()
