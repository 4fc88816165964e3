"""Seeded work that neither depends on nor disturbs the global random state of Python, NumPy and PyTorch."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed all global generators with `seed`; afterwards they stand where they stood before.

    transformers samples, and its Trainer shuffles, from the global generators: there is no other way in.
    """
    python, legacy = random.getstate(), np.random.get_state()
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    cuda = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        if mps is not None:
            torch.mps.set_rng_state(mps)
