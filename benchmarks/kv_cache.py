"""Sampling captions with three key-value caches: ours with room, transformers' growing one, transformers' static one.

    python benchmarks/kv_cache.py

The garden's language model, 4 prompts, 256 answers of up to 48 tokens in one batch; the median of three, side by side
in one process. The static cache cannot be cut to one row a prompt and dealt out, so it reads each answer's prompt.
"""

import statistics
import time
from typing import Any
from unittest import mock

import transformers

from kka.algorithm.prompts import build_prompt
from kka.language import GARDEN_LM, hf
from kka.language.hf import HFLanguageModel
from kka.settings.language import LanguageSettings

PROMPTS = [build_prompt(f"a {colour} flower with five round petals", domain="flowers")
           for colour in ("red", "blue", "white", "yellow")]  # fmt: skip


def seconds(model: HFLanguageModel) -> float:
    """Of one call, the median of three after one that warms up."""
    times = []
    for seed in range(4):
        started = time.perf_counter()
        model.sample(PROMPTS, 64, seed=seed)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def main() -> None:
    model = HFLanguageModel(GARDEN_LM, settings=LanguageSettings(max_new_tokens=48), device="cpu")
    found = {"with room (kka)": seconds(model)}
    with mock.patch.object(hf, "RoomyLayer", lambda layer, room: layer):
        found["growing (DynamicCache)"] = seconds(model)

    def static(**options: Any) -> transformers.GenerationConfig:
        return transformers.GenerationConfig(cache_implementation="static", disable_compile=True, **options)

    with mock.patch.object(model, "_read_once", lambda *_: {}), mock.patch.object(hf, "GenerationConfig", static):
        found["static (StaticCache)"] = seconds(model)
    for name, value in found.items():
        print(f"{name:24} {value:6.2f} s  {value / found['with room (kka)']:.2f} x")


if __name__ == "__main__":
    main()
