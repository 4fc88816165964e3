"""The CMDA detector."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from kka.detectors import fit_detector, load_detector
from kka.detectors.contrastive.cmda import CMDA, CMDASettings
from kka.detectors.contrastive.loss import affinity, generated, nt_xent
from kka.errors import UserError
from kka.protocols import Images

QUICK = CMDASettings(
    depth=10, width=4, text_width=8, size=16, image_epochs=1, generation_epochs=1, batch_size=8, learning_rate=0.05,
    precision="fp32", device="cpu",
)  # fmt: skip
CAPTIONS = [f"a {colour} flower with {n} petals" for colour in ("red", "blue", "white") for n in ("three", "four")] * 2


def pictures(n: int, seed: int = 0, size: int = 16) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def scores(
    settings: CMDASettings, captions: list[str] | None = CAPTIONS, anomalies: Images | None = None
) -> np.ndarray:
    detector = CMDA(settings=settings, seed=1).fit(pictures(12), anomalies, captions=captions)
    return detector.score(pictures(5, seed=2))


def test_captions_matter() -> None:
    """Captions that are overlooked would leave SSD; another order of them is another training."""
    known = scores(QUICK)
    assert (known == scores(QUICK)).all()
    assert (known != scores(QUICK, captions=CAPTIONS[1:] + CAPTIONS[:1])).any()
    assert (known != scores(QUICK, captions=None)).any()


def test_without_captions_the_images_are_trained_alone() -> None:
    """No text term and no step 2: their settings must not matter then."""
    plain = scores(QUICK, captions=None)
    changed = dataclasses.replace(QUICK, text_weight=7.0, generation_epochs=5, text_width=3)
    assert (plain == scores(changed, captions=None)).all()
    assert (plain == scores(dataclasses.replace(QUICK, text_weight=0.0, generation_epochs=0))).all()


def test_both_steps_are_there() -> None:
    """Each step's own settings change the outcome."""
    known = scores(QUICK)
    assert (known != scores(dataclasses.replace(QUICK, generation_epochs=0))).any()
    assert (known != scores(dataclasses.replace(QUICK, text_weight=5.0))).any()
    assert (known != scores(dataclasses.replace(QUICK, image_epochs=2))).any()


def test_what_step_2_generates_is_counted() -> None:
    """Table II's column; the paper's 375,000 are 150 passes over 2,500 normals."""
    detector = CMDA(settings=dataclasses.replace(QUICK, generation_epochs=3), seed=1)
    assert detector.fit(pictures(12), captions=CAPTIONS).noise_draws_ == 36
    assert detector.fit(pictures(12)).noise_draws_ == 0


def test_the_losses_of_the_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terms as the paper puts them together: weights, operands and their order."""
    seen = []

    def train(network, loss, stock, recipe, *, epochs, seed, beside, progress):  # type: ignore[no-untyped-def]
        seen.append((loss, beside))
        return []

    monkeypatch.setattr("kka.detectors.contrastive.cmda.train_contrastive", train)
    CMDA(settings=QUICK, seed=1).fit(pictures(12), captions=CAPTIONS)
    (step_1, texts), (step_2, _) = seen
    rng = torch.Generator().manual_seed(0)
    first, second, negatives = (
        torch.nn.functional.normalize(torch.randn(n, 128, generator=rng), dim=1) for n in (4, 4, 3)
    )
    index = torch.tensor([7, 2, 5, 0])
    with torch.no_grad():
        t = texts(index)
        images, text = (nt_xent(first, other, negatives, temperature=0.5) for other in (second, t))
        assert torch.allclose(step_1(first, second, negatives, index), images + 0.1 * text)
        mixed = generated(affinity(t, first), first)
        expected = nt_xent(mixed, second, negatives, temperature=0.5)
        assert torch.allclose(step_2(first, second, negatives, index), expected)


def test_the_text_network_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left out of the optimiser, it would stay random, and captions would be noise."""
    import kka.detectors.contrastive.cmda as module

    before, kept = [], []
    real = module.train_contrastive

    def train(*args, beside, **kwargs):  # type: ignore[no-untyped-def]
        before.append([p.detach().clone() for p in beside.parameters()])
        kept.append(beside)
        return real(*args, beside=beside, **kwargs)

    monkeypatch.setattr(module, "train_contrastive", train)
    CMDA(settings=QUICK, seed=1).fit(pictures(12), captions=CAPTIONS)
    assert any((old != new).any() for old, new in zip(before[0], kept[0].parameters(), strict=True))


def test_anomalies_act_in_training_and_in_the_score() -> None:
    """As in SSD: negatives of every term and, on request, a Gaussian of their own that the score subtracts."""
    anomalies = pictures(7, seed=3)
    plain, negatives = scores(QUICK), scores(QUICK, anomalies=anomalies)
    both = scores(dataclasses.replace(QUICK, outlier_score=True), anomalies=anomalies)
    assert (negatives != plain).any() and (both < negatives).all()


def test_the_number_of_captions_is_checked() -> None:
    """A caption too few would pair all later images with their neighbours' captions."""
    with pytest.raises(UserError, match="captions: expected one for each of the 12 normals; got 11"):
        scores(QUICK, captions=CAPTIONS[:11])
    with pytest.raises(UserError, match="text: expected captions with words"):
        scores(QUICK, captions=["!"] * 12)


def test_captions_come_by_fit_detector_and_stay_out_of_the_file(tmp_path: Path) -> None:
    """`takes` names them; a loaded detector scores images alone, without captions or the text network."""
    detector = fit_detector(CMDA(settings=QUICK, seed=1), pictures(12), captions=CAPTIONS)
    images = pictures(5, seed=2)
    assert (detector.score(images) == scores(QUICK)).all()
    detector.save(tmp_path)
    loaded = load_detector(tmp_path)
    assert (loaded.score(images) == detector.score(images)).all()
    assert isinstance(loaded, CMDA) and loaded.settings == QUICK and loaded.seed == 1
    assert "petals" not in (tmp_path / "detector.json").read_text()


def test_equal_captions() -> None:
    """Class names in the place of captions: all alike, and still finite."""
    assert np.isfinite(scores(QUICK, captions=["rose"] * 12)).all()


def test_progress_runs_through_both_steps() -> None:
    """A bar that starts anew at step 2."""
    calls: list[tuple[int, int]] = []
    settings = dataclasses.replace(QUICK, image_epochs=2)
    detector = CMDA(settings=settings, progress=lambda done, total: calls.append((done, total)))
    detector.fit(pictures(16), captions=(CAPTIONS * 2)[:16])
    assert calls == [(2, 6), (4, 6), (6, 6)]


def test_presets() -> None:
    """The published preset is the card."""
    s = CMDA.PRESETS["published"]
    assert s == CMDASettings() and set(CMDA.PRESETS) == {"published", "small", "cpu"}
    assert (s.depth, s.width, s.text_width, s.text_weight, s.batch_size) == (50, 64, 4096, 0.1, 128)
    assert (s.learning_rate, s.momentum, s.weight_decay, s.temperature) == (1e-2, 0.9, 1e-4, 0.5)
    assert s.image_epochs + s.generation_epochs == 200
    assert CMDA.takes == {"captions"} and CMDA().input_size == 64


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (dict(text="bert"), "text: expected tfidf or hf:.*got 'bert'"),
        (dict(image_epochs=0), "got image_epochs = 0"),
        (dict(generation_epochs=-1), "got generation_epochs = -1"),
        (dict(depth=1), "depth to be 10, 18"),
        (dict(precision="half"), "precision to be"),
    ],
)
def test_settings_are_checked(wrong: dict, said: str) -> None:
    """A typing slip would end in a traceback minutes later."""
    with pytest.raises(UserError, match=said):
        CMDASettings(**wrong)
