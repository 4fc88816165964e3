"""What a language model's own answers tell of it."""

import math
from pathlib import Path

import numpy as np
import pytest

from kka.language.hf import HFLanguageModel
from kka.language.measures import base_entropy, different_captions, information, kl_to_base, prompt_information
from kka.settings.language import LanguageSettings
from language_fakes import CAPTIONS, save_tiny_model

PROMPTS = [f"Another flower: {caption}" for caption in CAPTIONS[:3]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HFLanguageModel:
    folder: Path = save_tiny_model(tmp_path_factory.mktemp("lm") / "tiny", spread=0.1)
    return HFLanguageModel(folder, settings=LanguageSettings(max_new_tokens=20, batch_size=7), device="cpu")


def test_information_by_the_literal_sum() -> None:
    """Deaf: 0. Each answer possible under its own prompt alone: log of the prompts. Else by hand, in probabilities."""
    own = np.array([0, 1, 2])
    assert information(np.full((3, 3), -7.0), own) == pytest.approx(0, abs=1e-12)
    assert information(np.where(np.eye(3, dtype=bool), -5.0, -900.0), own) == pytest.approx(math.log(3))
    chance = np.array([[0.5, 0.1], [0.2, 0.3]])
    literal = (math.log(0.5 / 0.3) + math.log(0.3 / 0.25)) / 2
    assert information(np.log(chance), np.array([0, 1])) == pytest.approx(literal)


def test_information_of_a_model(model: HFLanguageModel) -> None:
    """It is that of the model's own probabilities, of different prompts alone; the same again for the same seed."""
    found = prompt_information(model, [*PROMPTS, PROMPTS[0]], seed=1)
    assert -1 < found <= math.log(3)
    assert prompt_information(model, PROMPTS, seed=1) == found
    assert prompt_information(model, PROMPTS[:1], seed=1) == pytest.approx(0, abs=1e-9)


def test_entropy_and_distance_of_an_untuned_model(model: HFLanguageModel) -> None:
    """It is at no distance from itself; its entropy is at most that of 20 tokens drawn evenly."""
    assert kl_to_base(model, PROMPTS, seed=2) == 0
    assert 0 < base_entropy(model, PROMPTS, seed=2) <= 1.05 * 20 * math.log(len(model.tokenizer))


def test_different_captions_of_a_model_that_has_collapsed(
    model: HFLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the bound on KL is there against must show in the figure."""
    assert different_captions(model, PROMPTS, seed=3) > 50
    one = model.tokenizer("a red flower", add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(model, "draw", lambda prompts, rows, **_: [one] * len(rows))
    assert different_captions(model, PROMPTS, seed=3) == 1
