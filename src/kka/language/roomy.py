"""Keys and values of a prompt, with room for the answers that are written to it."""

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values with room for what is to come: transformers' own layer copies all of them for every token.

    For the garden's model on a CPU that copying costs 6 to 18 %, more for longer answers (`benchmarks/kv_cache.py`).
    transformers' static cache is as fast, but cannot be read once for a prompt and dealt out to its answers.
    """

    def __init__(self, full: DynamicLayer, room: int) -> None:
        super().__init__()
        assert full.keys is not None, "a layer that has read the prompts"
        assert full.values is not None
        self._length = full.keys.shape[-2]
        self._buffers = [torch.nn.functional.pad(held, (0, 0, 0, room)) for held in (full.keys, full.values)]
        self.dtype, self.device, self.is_initialized = full.keys.dtype, full.keys.device, True
        self.keys, self.values = full.keys, full.values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        end = self._length + key_states.shape[-2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._length : end] = states
        self._length = end
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values
