"""What is done to the logits of a token before it is drawn."""

from typing import Any

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from kka.language.processors import Nucleus

IDS: Any = torch.zeros(1, 1, dtype=torch.long)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.9), (0.7, 0.95), (1.3, 0.5), (0.7, 1.0)])
def test_the_nucleus_is_that_of_the_whole_vocabulary(temperature: float, top_p: float) -> None:
    """Also where it has more tokens than are looked at first: flat logits keep thousands."""
    generator = torch.Generator().manual_seed(0)
    sharpness = torch.tensor([[0.1], [1.0], [2.0], [4.0], [8.0]])
    scores: Any = torch.randn(5, 9000, generator=generator) * sharpness
    warped: Any = TemperatureLogitsWarper(temperature)(IDS, scores.clone())
    whole = TopPLogitsWarper(top_p)(IDS, warped)
    kept = torch.stack([Nucleus(temperature, top_p)(IDS, row[None].clone())[0] for row in scores])
    assert torch.equal(kept, whole) and torch.equal(Nucleus(temperature, top_p)(IDS, scores.clone()), whole)
    if top_p < 1:
        assert whole[0].isfinite().sum() > Nucleus.LIKELIEST > whole[-1].isfinite().sum()
