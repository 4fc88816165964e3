"""Writing captions (Eq. 3): captions/s against the floor and against the plain way.

Floor: two FLOP for each weight and token written, over the machine's matrix rate, measured in the same run; the
prompts, read once each, and attention are left out. Plain way: one prompt at a time, token by token, the whole
prefix computed anew for every token, as the published code does. Both sample at temperature 1 from the same model
until the end of the sentence; the rates are those of raw answers, before any cleaning.

    python benchmarks/captions.py --model garden --out benchmarks/results/captions.json
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import torch

from kka.algorithm.prompts import build_prompt
from kka.common.machine import matrix_rate
from kka.garden.corpus import corpus
from kka.language import build_language_model
from kka.language.hf import HFLanguageModel
from kka.language.rng import own_randomness


@torch.no_grad()
def plain(model: HFLanguageModel, prompts: list[str], seed: int) -> int:
    """One answer to each prompt, without a cache or batches; the tokens written."""
    ends, written = model._ends(), 0
    with own_randomness(seed, model.device):
        for prompt in prompts:
            ids = torch.tensor([model.encode(prompt)], device=model.device)
            for _ in range(model.max_new_tokens):
                logits = model.model(input_ids=ids, use_cache=False).logits[0, -1].float()
                token = int(torch.multinomial(logits.softmax(-1), 1))
                ids = torch.cat([ids, torch.tensor([[token]], device=model.device)], 1)
                written += 1
                if token in ends:
                    break
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="garden", help="a spec: garden, hf:<hub id or folder>")
    parser.add_argument("--captions", type=int, default=1000)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--plain-captions", type=int, default=24)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    model = build_language_model(args.model, device=args.device)
    assert isinstance(model, HFLanguageModel), "the benchmark is of transformers models"
    prompts = [build_prompt(caption, domain="flowers") for _, caption in corpus(args.prompts, 1)]
    each = args.captions // len(prompts)
    model.sample(prompts, 2, seed=0)  # warm up
    before, start = model.tokens_written, time.perf_counter()
    model.sample(prompts, each, seed=1)
    seconds, tokens = time.perf_counter() - start, model.tokens_written - before
    plain(model, prompts[:1], 0)
    start = time.perf_counter()
    plain_tokens = plain(model, (prompts * args.plain_captions)[: args.plain_captions], 1)
    plain_seconds = time.perf_counter() - start

    rate = matrix_rate(model.device, model.model.dtype)
    parameters = sum(p.numel() for p in model.model.parameters())
    count = each * len(prompts)
    result = {
        "model": model.identity,
        "parameters": parameters,
        "device": str(model.device),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads",
        "captions": count,
        "captions_per_second": count / seconds,
        "tokens_per_caption": tokens / count,
        "matrix_rate_gflops": rate / 1e9,
        "floor_captions_per_second": rate / (2 * parameters * tokens / count),
        "share_of_floor": (2 * parameters * tokens / rate) / seconds,
        "plain_captions_per_second": args.plain_captions / plain_seconds,
        "plain_tokens_per_second": plain_tokens / plain_seconds,
        "speedup": (tokens / seconds) / (plain_tokens / plain_seconds),
    }
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
