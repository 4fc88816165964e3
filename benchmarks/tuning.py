"""A round of preference tuning of a chat model on a CPU: seconds, memory, and what the arithmetic alone would take.

    python benchmarks/tuning.py hf:<folder of SmolLM2-135M-Instruct>

Each precision is a process of its own, whose peak is the kernel's record of its largest resident size. 64 pairs are
seen, under prompts as the loop builds them. Sampling, tuning and measuring are those of `kka run`.

Floor: operations that cannot be left out, over the rate of one matrix product of the model's size on the same threads
at the same time: 2 N a token of a forward pass, 4 N of a training step (frozen weights need no gradient of their own;
the usual 6 N stands beside it), with each prompt read once a step, and once for the references.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "results" / "tuning.json"
NUMBERS = ("five", "six", "eight", "ten", "many")
COLOURS = ("white", "violet", "pale yellow", "deep red", "blue", "pink")
SHAPES = ("rounded", "narrow pointed", "ruffled", "heart-shaped", "long drooping")
CENTRES = (
    "a small green center", "a large dark cone in the middle that rises above the petals",
    "bright orange stamens, and it grows alone on a thin hairy stem between dark glossy leaves",
)  # fmt: skip
BATCH, STEPS, PROMPTS = 16, 4, 8


def captions() -> list[str]:
    """10 to 40 tokens each."""
    return [
        f"this flower has {number} {shape} {colour} petals with {centre}"
        for number in NUMBERS for colour in COLOURS for shape in SHAPES for centre in CENTRES
    ]  # fmt: skip


def rate(dtype: Any, tokens: int, width: int, inner: int) -> float:
    """Operations a second of one linear layer, the best of ten."""
    import torch

    a, b = (torch.randn(n, width).to(dtype) for n in (tokens, inner))
    times = []
    for _ in range(10):
        started = time.perf_counter()
        for _ in range(10):
            torch.nn.functional.linear(a, b)
        times.append((time.perf_counter() - started) / 10)
    return 2 * tokens * width * inner / min(times)


def measure(spec: str, precision: str, threads: int, memory: float) -> dict[str, Any]:
    """One round, in this process."""
    import numpy as np
    import torch

    from kka.algorithm.prompts import build_prompt
    from kka.language import measures
    from kka.language.dpo import tokenised
    from kka.language.hf import HFLanguageModel
    from kka.protocols import PreferencePair
    from kka.settings.language import LanguageSettings

    torch.set_num_threads(threads)
    settings = LanguageSettings(precision=precision, dpo_steps=STEPS, dpo_batch=BATCH, memory=memory)  # type: ignore[arg-type]
    loaded, said, marks = time.perf_counter(), [], []
    model = HFLanguageModel(spec.removeprefix("hf:"), settings=settings, device="cpu")
    model.say = lambda text: (said.append(text), marks.append(time.perf_counter()))
    loaded = time.perf_counter() - loaded
    chosen = np.random.default_rng(0).permutation(captions())
    prompts = [build_prompt(str(text), domain="flowers") for text in chosen[:PROMPTS]]
    texts = [str(text) for text in chosen[PROMPTS:]]
    pairs = [
        PreferencePair(prompt=prompts[i % PROMPTS], hard=texts[2 * i], easy=texts[2 * i + 1])
        for i in range(BATCH * STEPS + 13)
    ]
    train, held_out = pairs[: BATCH * STEPS], pairs[BATCH * STEPS :]
    rows = tokenised(train, model.chat)
    n = sum(p.numel() for p in model.model.parameters())
    parts: dict[str, float] = {}
    for name in ("base_entropy", "different_captions", "kl_to_base"):
        _timed(measures, name, parts)
    steps: list[float] = []
    model.progress = lambda stage, done, total: steps.append(time.perf_counter()) if stage == "dpo" else None
    started, cpu = time.perf_counter(), time.process_time()
    report = model.tune(train, held_out, seed=1)
    wall, busy = time.perf_counter() - started, time.process_time() - cpu
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    flops = rate(dtype, 512, model.model.config.hidden_size, model.model.config.intermediate_size)
    answers = sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows)
    shared = sum(len(ids) for ids in {tuple(row["prompt_ids"]) for row in rows})
    seen = answers + STEPS * shared
    floor = (4 * n * seen + 2 * n * (answers + shared)) / flops
    return {
        "precision": precision, "threads": threads, "memory_gb": memory, "parameters": n,
        "pairs_seen": BATCH * STEPS, "prompt_tokens": sorted({len(row["prompt_ids"]) for row in rows}),
        "answer_tokens": [min(len(r[k]) for r in rows for k in ("chosen_ids", "rejected_ids")),
                          max(len(r[k]) for r in rows for k in ("chosen_ids", "rejected_ids"))],
        "tokens_of_steps": seen, "tokens_read_the_plain_way": answers + 2 * sum(len(r["prompt_ids"]) for r in rows),
        "load_s": round(loaded, 1), "round_s": round(wall, 1), "round_cpu_s": round(busy, 1),
        "steps_s": [round(b - a, 2) for a, b in zip([*marks, *steps], steps, strict=False)],
        "measuring_s": {name: round(value, 1) for name, value in parts.items()},
        "gflops": round(flops / 1e9), "floor_s": round(floor, 1), "floor_6n_s": round(floor * 1.4, 1),
        "said": said, "report": {k: round(v, 4) for k, v in vars(report).items()},
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
    }  # fmt: skip


def _timed(module: Any, name: str, into: dict[str, float]) -> None:
    """Add up the seconds of a function of a module, from now on."""
    plain = getattr(module, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        found = plain(*args, **kwargs)
        into[name] = into.get(name, 0.0) + time.perf_counter() - started
        return found

    setattr(module, name, timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=float, default=5.0, help="GB, as --language.memory")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print("ROW" + json.dumps(measure(asked.spec, asked.one, asked.threads, asked.memory)))
        return
    from kka.experiments.engine.compute import machine

    rows = json.loads(OUT.read_text())["runs"] if OUT.is_file() else []
    for precision in asked.precisions:
        load = os.getloadavg()[0]
        command = [sys.executable, __file__, asked.spec, "--threads", str(asked.threads), "--memory", str(asked.memory)]
        done = subprocess.run([*command, "--one", precision], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        row = json.loads(done.stdout.rsplit("ROW", 1)[1]) | {"load_before": round(load, 1)}
        rows = [old for old in rows if (old["precision"], old["threads"]) != (precision, asked.threads)] + [row]
        OUT.write_text(json.dumps({"machine": machine(), "runs": rows}, indent=1) + "\n")
        print(json.dumps(row, indent=1), flush=True)


if __name__ == "__main__":
    main()
