"""Terms against collapse in preference tuning, side by side: DPO, an SFT term beside it, the mean over tokens, APO.

    python benchmarks/dpo_losses.py --seeds 3

The embedded world's language model. Captions are its own answers to six prompts; those that share more words with the
normal of their prompt are preferred, a third against a third (`kka.algorithm.preferences`), as the evaluator finds
pictures near the normals harder. Every loss is TRL's, has the same pairs and steps, and is followed by the same bound
on KL. Figures are those of the model as it is left; `kl_free` is the KL before the step was shortened.
"""

import argparse
import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from kka.algorithm.answers import parse_answer
from kka.algorithm.preferences import make_pairs, thirds
from kka.algorithm.prompts import build_prompt
from kka.common.files import write_atomically
from kka.common.metrics import mean_ci95
from kka.experiments.engine.compute import machine
from kka.language import GARDEN_LM, dpo, measures
from kka.language.hf import HFLanguageModel
from kka.protocols import PreferencePair
from kka.settings.language import LanguageSettings

OUT = Path(__file__).parent / "results" / "dpo_losses.json"
LOSSES: dict[str, dict[str, Any]] = {
    "DPO": {"loss_type": ["sigmoid"]},
    "DPO + 0.1 SFT": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.1]},
    "DPO + SFT": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 1.0]},
    "DPO a token": {"loss_type": ["sigmoid_norm"], "beta": 2.0},
    "APO-zero": {"loss_type": ["apo_zero"]},
    "APO-down": {"loss_type": ["apo_down"]},
}
"""Name -> what TRL is told. A mean over some 20 tokens needs a beta as many times as large."""
STEPS, EACH = 24, 32


def pairs_of(seed: int) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Training and validation pairs."""
    model = HFLanguageModel(GARDEN_LM, settings=LanguageSettings(), device="cpu")
    normals = [
        f"this flower has {number} {colour} petals with a {centre} center"
        for number, colour, centre in (
            ("five", "blue", "small yellow"), ("many", "white", "large dark"), ("six", "pink", "small green"),
            ("eight", "red", "orange"), ("five", "yellow", "large brown"), ("ten", "purple", "white"),
        )
    ]  # fmt: skip
    prompts = [build_prompt(text, domain="flowers") for text in normals]
    captions, groups, distances = [], [], []
    for normal, prompt, answers in zip(normals, prompts, model.sample(prompts, EACH, seed=seed), strict=True):
        shown = set(normal.split())
        for caption in {caption for answer in answers for caption in parse_answer(answer)}:
            words = set(caption.split())
            captions.append(caption)
            groups.append((prompt,))
            distances.append(1 - len(words & shown) / len(words | shown))
    order = np.argsort(captions)  # a set has none
    captions, groups, distances = ([column[i] for i in order] for column in (captions, groups, distances))
    side = thirds(np.array(distances), groups)
    kept = np.flatnonzero(side)
    chosen = ([column[i] for i in kept] for column in (captions, groups))
    return make_pairs(*chosen, (side[kept] > 0).tolist(), max_pairs=256, seed=seed)


def run(name: str, seed: int) -> dict[str, Any]:
    """Tune with one loss."""
    settings = LanguageSettings(dpo_steps=STEPS)
    model = HFLanguageModel(GARDEN_LM, settings=settings, device="cpu")
    kls: list[float] = []
    plain = measures.kl_to_base

    def distance(*args: Any, **kwargs: Any) -> float:
        kls.append(plain(*args, **kwargs))
        return kls[-1]

    configure = dpo.DPOConfig
    with (
        mock.patch.object(measures, "kl_to_base", distance),
        mock.patch.object(dpo, "DPOConfig", lambda **given: configure(**given | LOSSES[name])),
    ):
        report = model.tune(*pairs_of(seed), seed=seed)
    figures = {k: round(float(v), 4) for k, v in vars(report).items()}
    return {"loss": name, "seed": seed, "kl_free": round(kls[0], 3), **figures}


FIGURES = {
    "accuracy": "accuracy, %", "margin": "margin", "kl_free": "KL, whole step", "step": "share of the step",
    "kl_to_base": "KL, as left", "different_after": "different of a hundred",
}  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: means over seeds, with the 95 % interval."""
    lines = ["| loss | " + " | ".join(FIGURES.values()) + " |", "|---|" + "---:|" * len(FIGURES)]
    for name in LOSSES:
        cells = []
        for figure in FIGURES:
            scale = 100 if figure == "accuracy" else 1
            mean, ci95 = mean_ci95([scale * row[figure] for row in rows if row["loss"] == name])
            cells.append(f"{mean:.2f}" + (f" ± {ci95:.2f}" if ci95 is not None else ""))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(OUT.read_text())["runs"] if OUT.is_file() else []
    for seed in range(asked.seeds):
        for name in LOSSES:
            if any((row["loss"], row["seed"]) == (name, seed) for row in rows):
                continue
            rows.append(run(name, seed))
            write_atomically(OUT, json.dumps({"machine": machine(), "steps": STEPS, "runs": rows}, indent=1) + "\n")
            print(rows[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
