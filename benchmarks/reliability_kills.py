"""Kills at random moments: every command is killed, started again until it ends, and must end as if it never was.

    python benchmarks/reliability_kills.py --kills 120

Seeded; a few minutes on two cores. Results: benchmarks/results/reliability_kills.json, as they come.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from forked import command, files_of, forked, warm
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

OUT = Path(__file__).parent / "results" / "reliability_kills.json"
TIMES = ("stage.json", "ledger.json", "report.html", "training.json")
"""Files that tell times."""
LIMIT = 300.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command that writes something."""

    name: str
    share: float
    """Of the kills."""
    arguments: Callable[[Path], list[str]]
    """Its arguments when it writes to this folder; what there is of it may change them (--resume)."""
    outcome: Callable[[Path], Any]
    """What it made, without times."""


def photos(folder: Path, n: int, seed: int) -> Path:
    """Pictures of one smooth thing."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ramp = np.linspace(60, 180, 48)[:, None, None]
    for i in range(n):
        pixels = ramp + rng.normal(0, 12, (48, 48, 3)) + rng.normal(0, 10, 3)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:03}.png")
    return folder


def jobs(place: Path) -> list[Job]:
    """All commands that write; what they read is made in `place`."""
    import prepare_fakes

    good = photos(place / "photos", 40, 0)
    prepare_fakes.write_cifar(place / "cifar", train=3, test=2)
    detector = place / "detector"
    train = ["train", "--data", str(good), "--describe", "a photo", "--detector", "sad", "--size", "32",
             "--set", "epochs=6", "--preset", "small"]  # fmt: skip
    first = forked(command([*train, "--out", str(detector)]), limit=LIMIT)
    assert first.code == 0, first.text
    loop = ["run", "--rounds", "1", "--initial", "16", "--fresh", "16", "--per-round", "6", "--seeds", "1",
            "--sad.epochs", "1", "--autoencoder-epochs", "1", "--language.dpo-steps", "2"]  # fmt: skip

    def run(out: Path) -> list[str]:
        begun = (out / "config.yaml").is_file()
        return ["run", "--out", str(out), "--resume"] if begun else [*loop, "--out", str(out)]

    return [
        Job(name="run", share=0.5, arguments=run, outcome=_run_outcome),
        Job(name="train", share=0.15, arguments=lambda out: [*train, "--out", str(out)], outcome=_detector_outcome),
        Job(
            name="score --out --maps", share=0.1, outcome=lambda out: files_of(out, but=()),
            arguments=lambda out: ["score", "--detector-dir", str(detector), str(good), "--out", str(out / "s.csv")],
        ),
        Job(
            name="export", share=0.1,
            outcome=lambda out: (sorted(files_of(out, but=())), (out / "m.onnx").read_bytes()),
            arguments=lambda out: ["export", "--detector-dir", str(detector), "--out", str(out / "m.onnx")],
        ),
        Job(
            name="data prepare", share=0.15, outcome=lambda out: files_of(out, but=()),
            arguments=lambda out: ["data", "prepare", "cifar100", "--from", str(place / "cifar"), "--out", str(out),
                                   "--allow-partial"],
        ),
    ]  # fmt: skip


def _run_outcome(out: Path) -> Any:
    from fakes import timeless

    summary = timeless(json.loads((out / "summary.json").read_text()))
    return files_of(out, but=(*TIMES, "summary.json")), json.dumps(summary, sort_keys=True)


def _detector_outcome(out: Path) -> Any:
    found = files_of(out, but=TIMES)
    cards = {name: json.loads(text) for name, text in found.items() if name.endswith(".json")}
    for card in cards.values():
        for name in ("seconds", "training"):
            card.pop(name, None)
    return {**{k: v for k, v in found.items() if k not in cards}, **cards}


def campaign(kills: int, seed: int, given: str) -> list[dict[str, Any]]:
    """A row for each job that came to its end: how often it was killed, and whether it ended alike. Rows that are
    stored by the same command stay."""
    from kka.common.files import write_atomically

    stored = json.loads(OUT.read_text()) if OUT.is_file() else {}
    rows: list[dict[str, Any]] = stored["rows"] if stored.get("command") == given else []
    place = Path(tempfile.mkdtemp())
    for job in jobs(place):
        left = round(kills * job.share) - sum(max(row["kills"], 1) for row in rows if row["job"] == job.name)
        if left <= 0:
            continue
        rng = random.Random(f"{seed} {job.name} {left}")
        (place / "whole").mkdir()
        whole = place / "whole" / "x" if job.name in ("run", "train", "data prepare") else place / "whole"
        plain = forked(command(job.arguments(whole)), limit=LIMIT)
        assert plain.code == 0, (job.name, plain.text)
        expected = job.outcome(whole)
        while left > 0:
            base = Path(tempfile.mkdtemp(dir=place))
            out = base / "x" if whole.name == "x" else base
            struck, messages = 0, []
            while True:
                after = rng.uniform(0.02, 0.6) * plain.seconds if struck < left else None
                ended = forked(command(job.arguments(out)), limit=LIMIT, kill_after=after)
                if ended.code is not None:
                    break
                struck += 1
            there = "holds a detector already" in ended.text  # killed between the commit and its last words
            if ended.code != 0:
                messages = [ended.text[-600:]]
            alike = (ended.code == 0 or there) and job.outcome(out) == expected
            litter = sorted(p.name for p in base.iterdir() if p.name.startswith(".") and p.is_dir())
            rows.append(
                {"job": job.name, "kills": struck, "alike": alike, "clean": ended.clean, "left_behind": litter,
                 "messages": messages}
            )  # fmt: skip
            print(rows[-1], flush=True)
            write_atomically(OUT, json.dumps({"command": given, "rows": rows}, indent=1) + "\n")
            left -= max(struck, 1)
            shutil.rmtree(base)
        shutil.rmtree(place / "whole")
    shutil.rmtree(place)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    warm()
    given = f"python benchmarks/reliability_kills.py --kills {asked.kills} --seed {asked.seed}"
    rows = campaign(asked.kills, asked.seed, given)
    print(f"{sum(r['kills'] for r in rows)} kills, {len(rows)} ends, {sum(not r['alike'] for r in rows)} not alike")


if __name__ == "__main__":
    main()
