"""The machine's matrix rate: the floor under whatever is made of matrix products."""

import time

import torch


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a square matrix product: the best of several runs."""
    n = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(8):
        start = time.perf_counter()
        float((a @ b)[0, 0])  # waits for the device
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best
