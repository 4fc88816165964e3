"""NaN and infinity are refused where they are made, with what, where, and what to do."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kka.common.metrics import aupr, auroc, evaluate, fpr_at_tpr, mean_ci95
from kka.common.numbers import require_finite, require_finite_tensors
from kka.deploy.calibrate import Calibration, calibrate
from kka.errors import UserError

BAD = [float("nan"), float("inf"), -float("inf")]


def test_what_is_finite_passes_as_it_is() -> None:
    """A check that copied or cast would change figures."""
    values = np.array([1.0, -3e38], np.float32)
    assert require_finite(values, "x", "y") is values and require_finite(2.5, "x", "y") == 2.5
    assert require_finite(values[:0], "x", "y").shape == (0,)
    require_finite_tensors({"a": torch.ones(2), "b": torch.tensor(3)}, "x", "y")


@pytest.mark.parametrize("bad", BAD)
def test_the_error_says_what_where_and_what_to_do(bad: float) -> None:
    """One sentence that a person can act on."""
    with pytest.raises(UserError, match=rf"^the loss: expected finite numbers; got {bad:g}\. Lower the rate\.$"):
        require_finite(bad, "the loss", "Lower the rate")
    values = np.zeros((4, 2))
    values[2, 1] = bad
    said = rf"^scores: expected finite numbers; got {bad:g} among them \(in 1 of 4, the first at position 2\)\. Mend"
    with pytest.raises(UserError, match=said):
        require_finite(values, "scores", "Mend")
    with pytest.raises(UserError, match=r"weights: expected finite numbers; got NaN or infinity in b\."):
        require_finite_tensors({"a": torch.ones(2), "b": torch.tensor([1.0, bad])}, "weights", "Copy them")


@pytest.mark.parametrize("bad", BAD)
def test_figures_of_scores_that_are_none(bad: float) -> None:
    """AUROC would sort NaN somewhere, or end in scikit-learn's traceback."""
    scores, labels = np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True])
    assert auroc(scores, labels) == 1
    for figure in (auroc, aupr, fpr_at_tpr, evaluate):
        with pytest.raises(UserError, match="scores of the test images: expected finite numbers"):
            figure(np.array([1.0, 2.0, bad, 4.0]), labels)
        with pytest.raises(UserError, match="expected scores of normals and of anomalies; got 4 normals and 0"):
            figure(scores, labels & False)
    with pytest.raises(UserError, match="figures of the seeds: expected finite numbers"):
        mean_ci95([0.5, bad])
    with pytest.raises(UserError, match="scores of held-out normals: expected finite numbers"):
        calibrate(np.array([1.0, bad]), 0.5)


@pytest.mark.parametrize("wrong", [*BAD, 1e300])
def test_a_threshold_that_is_none(wrong: float) -> None:
    """NaN, and what fp32 cannot hold, lies below no score: every image would be normal."""
    with pytest.raises(UserError, match="expected threshold to be a number"):
        Calibration(threshold=wrong, fpr=0.1, held_out=9, promised=0.1)


def test_a_language_model_without_logits(tmp_path: Path) -> None:
    """NaN logits end in torch's own error on a CPU, and in a device that is lost on a GPU."""
    from kka.language.hf import HFLanguageModel
    from language_fakes import save_tiny_model

    model = HFLanguageModel(save_tiny_model(tmp_path / "lm"), device="cpu")
    with torch.no_grad():
        next(model.model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="expected finite logits; got NaN or infinity"):
        model.sample(["Write a caption."], 2, seed=0)
