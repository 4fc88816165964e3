"""Do the rounds help where the image model draws whatever a caption says? Algorithm 1 on kinds of the garden.

The experiments on real data look pictures up in a bank of known classes, which never shows what no class is. The
garden's renderer draws any caption. Each kind is one `kka run` (three rounds, KKA (rep), two detectors an arm).

    python benchmarks/garden_rounds.py

Figures are stored in results/garden_rounds.json as they come; a killed run goes on.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from kka.cli.progress import arm_label
from kka.common.files import write_atomically
from kka.common.metrics import mean_ci95
from kka.config import RunConfig
from kka.experiments.engine.summary import as_text
from kka.run.execute import run
from kka.settings.deep_sad import DeepSADSettings

OUT = Path(__file__).parent / "results" / "garden_rounds.json"
KINDS = ("windflower", "marigold", "daisy", "pansy", "starflower")
ORDER = ("none", "noise", "kka-0", "kka-1", "kka-2", "kka-3", "real")


def run_all(kinds: list[str], seeds: int, work: Path) -> list[dict]:
    """A row for each (kind, seed of the loop)."""
    rows: list[dict] = json.loads(OUT.read_text())["runs"] if OUT.is_file() else []
    done = {(row["kind"], row["seed"]) for row in rows}
    for seed in range(seeds):
        for kind in kinds:
            if (kind, seed) in done:
                continue
            config = RunConfig(
                normal=(kind,), rounds=3, seed=seed, seeds=2, sad=DeepSADSettings(epochs=25)
            )
            out = work / f"{kind}-{seed}"
            summary = run(config, out, resume=(out / "config.yaml").is_file())
            arms = {arm: figures["auroc"]["mean"] for arm, figures in summary["arms"].items()}
            shares = [facts["hard_share_pool"] for facts in summary["rounds"]]
            rows.append({"kind": kind, "seed": seed, "auroc": arms, "hard_share_pool": shares})
            command = "python benchmarks/garden_rounds.py"
            write_atomically(OUT, json.dumps({"command": command, "runs": rows}, indent=1) + "\n")
            print(kind, seed, {arm: round(100 * figure, 1) for arm, figure in arms.items()}, flush=True)
    return rows


def table(rows: list[dict]) -> str:
    """Markdown: mean over kinds of the mean over seeds, and the paired gain over the first generation."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    lines = ["| trained with | AUROC | over KKA (0) |", "|---|---:|---:|"]
    for arm in ORDER:
        found = {kind: [row["auroc"] for row in rows if row["kind"] == kind] for kind in kinds}
        means = [100 * float(np.mean([figures[arm] for figures in found[kind]])) for kind in kinds]
        gains = [100 * float(np.mean([figures[arm] - figures["kka-0"] for figures in found[kind]])) for kind in kinds]
        gain = as_text(mean_ci95(gains), signed=True) if arm in ("kka-1", "kka-2", "kka-3") else ""
        lines.append(f"| {arm_label(arm)} | {as_text(mean_ci95(means))} | {gain} |")
    return "\n".join([*lines, "", f"Kinds: {', '.join(kinds)}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/garden_rounds"))
    a = parser.parse_args()
    print(table(run_all(a.kinds, a.seeds, a.work)))


if __name__ == "__main__":
    main()
