"""What a small chat model writes: how many of its answers are usable and different, which are refused, and how fast.

Three tasks: magnetic tiles (one caption for all photos, with ideas), one class of flowers, one pair of aerial classes
(captions of the normals). One pass over the prompts of eight normals, no second tries.

    python benchmarks/chat_captions.py --data ../shared/data --lm smollm2 --answers 96

Floor: the tokens' multiply-adds at the machine's matrix rate, or, where that is more, the weights read once for a token
of each answer of a batch, at the machine's bandwidth.
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from kka.algorithm.answers import clean, parse_answer
from kka.algorithm.captions import write_captions
from kka.algorithm.prompts import instruction, prompts_for, resolve_template, worked_examples
from kka.common.files import write_atomically
from kka.common.machine import matrix_rate
from kka.language import build_language_model
from kka.settings.language import LanguageSettings

OUT = Path(__file__).parent / "results" / "chat_captions.json"
NORMALS, SHOWN = 8, 20


class Recorder:
    """Keeps the raw answers of a model."""

    def __init__(self, model: Any) -> None:
        self.model, self.answers, self.seconds = model, list[str](), 0.0

    def sample(self, prompts: Sequence[str], n: int, *, seed: int) -> list[list[str]]:
        """As the model does."""
        started = time.perf_counter()
        answers: list[list[str]] = self.model.sample(prompts, n, seed=seed)
        self.seconds += time.perf_counter() - started
        self.answers += [text for each in answers for text in each]
        return answers


def captions_of(path: Path, labels: set[int]) -> list[str]:
    """The first captions of a Parquet data set's classes, spread over them."""
    table = pq.read_table(path, columns=["label", "captions"]).to_pydict()  # type: ignore[no-untyped-call]
    found = [each[0] for label, each in zip(table["label"], table["captions"], strict=True) if label in labels]
    return list(dict.fromkeys(found[:: max(1, len(found) // NORMALS)]))[:NORMALS]


def tasks(data: Path) -> dict[str, tuple[str, str, list[str]]]:
    """Task -> template, domain, captions of normals."""
    return {
        "magnetic tiles": ("defect", "magnetic tiles", ["a grey photo of a magnetic tile"] * NORMALS),
        "Oxford-102, 77": ("style", "flowers", captions_of(data / "oxford102" / "train.parquet", {77})),
        "UCM-Caption, 19+20": ("style", "aerial photos", captions_of(data / "ucm_caption" / "train.parquet", {19, 20})),
    }


def bandwidth() -> float:
    """Bytes a second of reading numbers once, the best of five."""
    numbers, best = torch.randn(64 * 2**20), float("inf")
    for _ in range(5):
        started = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - started)
    return 4 * numbers.numel() / best


def main() -> None:
    """Write what was found; print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--lm", default="smollm2")
    parser.add_argument("--answers", type=int, default=96)
    parser.add_argument("--temperatures", type=float, nargs="*", default=[0.7, 1.0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    flops, bytes_read = matrix_rate(torch.device("cpu"), torch.float32), bandwidth()
    found: list[dict[str, Any]] = []
    for temperature in args.temperatures:
        for name, (template, domain, normals) in tasks(args.data).items():
            settings = LanguageSettings(temperature=temperature, batch_size=64)
            model: Any = build_language_model(args.lm, settings=settings, worked=worked_examples(template))
            prompts = [
                prompt for turn, caption in enumerate(normals)
                for prompt in prompts_for(caption, domain=domain, template=template, seed=turn)
            ]  # fmt: skip
            recorder = Recorder(model)
            n = len(prompts) * max(1, args.answers // len(prompts))
            batch = write_captions(
                recorder, prompts, n, seed=0, normals=normals, instruction=instruction(template),
                of_normals="{idea}" in resolve_template(template), at_least=0.01, max_attempts=1,
            )  # fmt: skip
            kept = {*batch.captions}
            refused = [
                text for text in recorder.answers if not {clean(each) for each in parse_answer(text)} & kept
            ]  # fmt: skip
            parameters = model.model.num_parameters()
            floor = max(2 * parameters * model.tokens_written / flops,
                        4 * parameters * model.tokens_written / settings.batch_size / bytes_read)  # fmt: skip
            row = {
                "task": name, "temperature": temperature, "answers": batch.answers, "kept": len(batch.captions),
                "unusable": batch.unusable, "refused": dict(batch.refused), "duplicates": batch.duplicates,
                "copies": batch.copies_of_normals, "tokens": model.tokens_written,
                "seconds": round(recorder.seconds, 1), "times_the_floor": round(recorder.seconds / floor, 1),
                "kept_examples": list(batch.captions[:: max(1, len(kept) // SHOWN)])[:SHOWN],
                "refused_examples": refused[:SHOWN],
            }  # fmt: skip
            found.append(row)
            print({key: value for key, value in row.items() if not key.endswith("examples")}, flush=True)
            facts = {
                "lm": args.lm, "threads": args.threads, "machine": platform.processor() or platform.machine(),
                "gflops": round(flops / 1e9), "gb_a_second": round(bytes_read / 1e9, 1),
            }  # fmt: skip
            write_atomically(args.out, json.dumps({**facts, "rows": found}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
