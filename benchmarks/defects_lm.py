"""The language model of defects: what it writes, and whether preferences lead it from the obvious to the faint.

    OMP_NUM_THREADS=1 python benchmarks/defects_lm.py --seeds 3

Written: a thousand answers about each of five objects; how many name a defect that paint knows and the object, how many
are different, and how far the shares of families and of what is said of them are from those of the grammar. Led: rounds
as `kka run` has them (prompts with three ideas for each of four normals, 200 captions that are none like another, the
nearest third against the farthest within a prompt and a round, the default steps), where a caption's "distance" is a
product of its words: below 1 for faint, tiny, hairline, above for obvious, huge, wide; once as it is, and once with a
noise as of an evaluator that often takes one for the other. Times are of the processor, one thread; the floors are the
arithmetic alone at the processor's matrix rate.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kka.algorithm.captions import NearDuplicates, write_captions
from kka.algorithm.preferences import make_pairs, thirds
from kka.algorithm.prompts import prompts_for
from kka.common.files import write_atomically
from kka.common.metrics import mean_ci95
from kka.data.domain import domain_of
from kka.defects.blanks import Blanks
from kka.defects.grammar import describe
from kka.defects.reading import Described, read
from kka.experiments.engine.compute import machine
from kka.language import DEFECTS_LM
from kka.language.defects import DefectsLanguageModel
from kka.settings.language import LanguageSettings

OUT = Path(__file__).parent / "results" / "defects_lm.json"
OBJECTS = (
    "a grey photo of a magnetic tile", "a photo of a machined bracket", "an aerial photo of a harbour",
    "a photo of a sunflower", "ein Foto einer Fliese",
)  # fmt: skip
WRITTEN, REPRESENTATIVES, CAPTIONS, ROUNDS, FRESH = 1000, 4, 200, 2, 400
NOISES = (0.0, 0.7)
"""Deviation of the logarithm of a "distance" from what the words say; theirs is about 0.4."""
WEIGHTS = {
    "strength": {"faint": 0.4, "slight": 0.6, "obvious": 1.8},
    "size": {"tiny": 0.4, "small": 0.6, "large": 1.6, "huge": 2.2},
    "width": {"hairline": 0.6, "thin": 0.8, "wide": 1.4},
}


def distance(defects: Sequence[Described]) -> float:
    """Of the most conspicuous of a caption's defects: above 1 for what is large and obvious."""
    return max(
        (
            float(np.prod([WEIGHTS[a].get(d.attributes.get(a, ""), 1.0) for a in WEIGHTS])) for d in defects
        ),
        default=3.0,
    )  # fmt: skip


def shares(readings: Sequence[Sequence[Described]]) -> dict[str, float]:
    """Of all defects that are named, the share of each family and of each value of an attribute."""
    counts: Counter[str] = Counter()
    total = 0
    for defects in readings:
        for defect in defects:
            total += 1
            counts.update([f"family {defect.family}", *(f"{a} {v}" for a, v in defect.said)])
    return {key: count / total for key, count in counts.items()}


def unlike(captions: Sequence[str]) -> int:
    """How many are no near-duplicates of one before, as a run counts them."""
    seen, kept = NearDuplicates(), 0
    for caption in captions:
        if not seen.find(caption):
            seen.add(caption)
            kept += 1
    return kept


def prompts_of(subject: str, seed: int) -> list[str]:
    """As a run with `--describe` has them."""
    return [
        prompt for k in range(REPRESENTATIVES)
        for prompt in prompts_for(
            subject, domain=domain_of(subject) or "pictures", template="defect", seed=100 * seed + k
        )
    ]  # fmt: skip


def processor_rate() -> float:
    """FLOP of a square matrix product in a second of the processor, which other work on the machine does not take."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = 0.0
    for _ in range(8):
        start = time.process_time()
        a @ b
        best = max(best, 2 * 2048**3 / (time.process_time() - start))
    return best


def written(subject: str, rate: float) -> dict[str, Any]:
    """A thousand answers about one object."""
    model = DefectsLanguageModel(DEFECTS_LM, subjects=(subject,), device="cpu")
    prompts = prompts_of(subject, 0)
    model.sample(prompts, 2, seed=9)  # warm up
    before, start = model.tokens_written, time.process_time()
    answers = model.sample(prompts, -(-WRITTEN // len(prompts)), seed=0)
    seconds, tokens = time.process_time() - start, model.tokens_written - before
    count = sum(map(len, answers))
    captions = [text for texts in answers for text in texts][:WRITTEN]
    readings = [read(caption, subject) for caption in captions]
    rng = np.random.default_rng(1)
    grammar = shares([read(describe(rng, subject), subject).defects for _ in range(20 * WRITTEN)])
    found = shares([reading.defects for reading in readings])
    name = Blanks.of(subject).thing
    parameters = sum(p.numel() for p in model.written.model.parameters())
    return {
        "subject": subject, "captions": len(captions),
        "named": sum(bool(r.defects) for r in readings), "all_words_known": sum(not r.ignored for r in readings),
        "of_the_object": sum(name in caption for caption in captions),
        "different": len(set(captions)), "unlike": unlike(captions),
        "families": sum(key.startswith("family") for key in found),
        "values": sum(not key.startswith("family") for key in found),
        "values_of_the_grammar": sum(not key.startswith("family") for key in grammar),
        "largest_difference_of_shares": round(max(abs(found.get(k, 0) - share) for k, share in grammar.items()), 4),
        "tokens_a_caption": round(tokens / count, 1),
        "cpu_seconds_a_thousand": round(1000 * seconds / count, 2),
        "floor_seconds_a_thousand": round(1000 * 2 * parameters * tokens / count / rate, 3),
        "examples": captions[:: WRITTEN // 8][:8],
    }  # fmt: skip


def standing(model: DefectsLanguageModel, prompts: Sequence[str], subject: str, seed: int) -> dict[str, Any]:
    """What fresh answers are like, as the model stands."""
    answers = model.sample(prompts, -(-FRESH // len(prompts)), seed=seed)
    captions = [text for texts in answers for text in texts]
    readings = [read(caption, subject).defects for caption in captions]
    distances = np.array([distance(defects) for defects in readings])
    n = len(captions)
    return {
        "faint_or_small": float((distances < 0.9).mean()), "obvious_or_large": float((distances > 1.1).mean()),
        "log_distance": float(np.log(distances).mean()), "named": sum(map(bool, readings)) / n,
        "different": len(set(captions)) / n, "unlike": unlike(captions) / n,
        "families": len({d.family for defects in readings for d in defects}), "examples": captions[:: n // 5][:5],
    }  # fmt: skip


def led(seed: int, noise: float, rate: float) -> dict[str, Any]:
    """Rounds of tuning on the tile."""
    subject, rng = OBJECTS[0], np.random.default_rng(seed)
    model = DefectsLanguageModel(DEFECTS_LM, settings=LanguageSettings(), subjects=(subject,), device="cpu")
    prompts = prompts_of(subject, seed)
    rounds: list[dict[str, Any]] = [{"round": 0, **standing(model, prompts, subject, 1000 + seed)}]
    captions: list[str] = []
    groups: list[tuple[str | int, ...]] = []
    relative: list[float] = []
    parameters = sum(p.numel() for p in model.written.model.parameters())
    for number in range(1, ROUNDS + 1):
        batch = write_captions(
            model, prompts, CAPTIONS, seed=100 * seed + number, known=captions, normals=[subject], of_normals=True
        )
        captions += batch.captions
        groups += [(prompt, number) for prompt in batch.prompts]
        relative += [
            distance(read(caption, subject).defects) * float(np.exp(noise * rng.standard_normal()))
            for caption in batch.captions
        ]
        side = thirds(np.array(relative), groups)
        compared = np.flatnonzero(side).tolist()
        pairs, validation = make_pairs(
            [captions[i] for i in compared], [groups[i] for i in compared], [bool(side[i] > 0) for i in compared],
            relative=[relative[i] for i in compared], max_pairs=600, seed=seed,
        )  # fmt: skip
        start = time.process_time()
        report = model.tune(pairs, validation, seed=100 * seed + number)
        seconds = time.process_time() - start
        encode = model.written.tokenizer
        tokens = np.mean([len(encode(text)["input_ids"]) + 4 for pair in pairs for text in (pair.hard, pair.easy)])
        # Forward of policy and reference, and a backward, which is two: four times two FLOP a weight and token.
        floor = 8 * parameters * tokens * report.steps * 2 * model.settings.dpo_batch / rate
        figures = {k: v for k, v in vars(report).items() if k not in ("answers",)}
        rounds.append({
            "round": number, **standing(model, prompts, subject, 1000 + 10 * number + seed), "answers": batch.answers,
            "cpu_seconds": round(seconds, 1), "floor_seconds": round(float(floor), 2), **figures,
        })  # fmt: skip
        print(json.dumps(rounds[-1]), flush=True)
    return {"seed": seed, "noise": noise, "rounds": rounds}


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Markdown: means over seeds, in %, with the 95 % interval."""
    figures = ("faint_or_small", "obvious_or_large", "named", "different", "unlike")
    lines = ["| noise | round | " + " | ".join(figures) + " |", "|---:|---:|" + "---:|" * len(figures)]
    for noise in NOISES:
        for number in range(ROUNDS + 1):
            cells = []
            for figure in figures:
                values = [100 * run["rounds"][number][figure] for run in runs if run["noise"] == noise]
                mean, ci95 = mean_ci95(values)
                cells.append(f"{mean:.1f}" + (f" ± {ci95:.1f}" if ci95 is not None else ""))
            lines.append(f"| {noise} | {number} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rate = processor_rate()
    found: dict[str, Any] = {
        "machine": machine(), "matrix_rate_gflops": round(rate / 1e9, 1),
        "bytes": sum(file.stat().st_size for file in DEFECTS_LM.iterdir()), "written": [], "led": [],
    }  # fmt: skip

    def store() -> None:
        write_atomically(OUT, json.dumps(found, indent=1, ensure_ascii=False) + "\n")

    for subject in OBJECTS:
        found["written"].append(written(subject, rate))
        store()
        print(json.dumps(found["written"][-1], ensure_ascii=False), flush=True)
    for noise in NOISES:
        for seed in range(asked.seeds):
            found["led"].append(led(seed, noise, rate))
            store()
    print(table(found["led"]))


if __name__ == "__main__":
    main()
