"""SimpleNet: its losses against a literal reference, its training, its maps, and how anomalies come in."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kka.common.device import seeded
from kka.detectors.features import Features
from kka.detectors.inputs import small_ones
from kka.detectors.simplenet.detector import SimpleNet
from kka.detectors.simplenet.loss import (
    anomaly_hinge,
    image_scores,
    masked_hinge,
    most_anomalous,
    normal_hinge,
    top_hinge,
)
from kka.detectors.simplenet.network import Heads
from kka.detectors.simplenet.settings import SimpleNetSettings
from kka.detectors.simplenet.training import batch_loss, train_heads
from kka.errors import UserError
from kka.protocols import Images
from kka.settings.backbone import BackboneSettings
from reference import simplenet_losses as literal

BACKBONE = BackboneSettings(name="mobilenetv2_035", weights="random")
QUICK = dataclasses.replace(SimpleNet.PRESETS["cpu"], size=64, crop=64, dimension=32, hidden=16, epochs=2, device="cpu")
CPU = torch.device("cpu")
NUMBERS = st.floats(-2, 2, width=32)


def pictures(n: int, seed: int = 0, size: int = 32) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


class InMemory(Features):
    """Stands in for features on disk; `reads`: the rows of every read."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.shape = values, tuple(values.shape)
        self.reads: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.values)

    def _rows(self, index: Tensor) -> Tensor:  # type: ignore[override]
        self.reads.append(index.tolist())
        return self.values[index]


def patches(n: int, mean: float, seed: int) -> Tensor:
    return mean + torch.randn(n, 9, 8, generator=torch.Generator().manual_seed(seed))


def small(**changes: object) -> SimpleNetSettings:
    base = SimpleNetSettings(dimension=8, hidden=16, epochs=30, noise=1.0, learning_rate=5e-3, device="cpu")
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_published_settings() -> None:
    """The defaults are the card: a changed one would be compared with other people's figures."""
    s = SimpleNetSettings()
    assert SimpleNet.PRESETS["published"] == s
    assert (s.size, s.crop, s.dimension, s.hidden, s.strides) == (329, 288, 1536, 1024, (8, 16))
    assert (s.epochs, s.batch_size, s.learning_rate, s.noise, s.margin) == (160, 8, 2e-4, 0.015, 0.5)
    assert s.score_top == 0 and not s.standardise


@settings(max_examples=30, deadline=None)
@given(answers=st.lists(NUMBERS, min_size=1, max_size=12), margin=st.floats(0, 1))
def test_hinges_equal_the_literal_ones(answers: list[float], margin: float) -> None:
    """A wrong sign would train normals to be anomalies."""
    x = torch.tensor(answers, dtype=torch.float64)
    assert float(normal_hinge(x, margin)) == pytest.approx(literal.normal_hinge(answers, margin))
    assert float(anomaly_hinge(x, margin)) == pytest.approx(literal.anomaly_hinge(answers, margin))


@settings(max_examples=30, deadline=None)
@given(
    images=st.lists(st.lists(NUMBERS, min_size=7, max_size=7), min_size=1, max_size=4),
    margin=st.floats(0, 1),
    share=st.floats(0, 1),
)
def test_tops_equal_the_literal_ones(images: list[list[float]], margin: float, share: float) -> None:
    """The most anomalous patches are those of the lowest D, of each image apart."""
    x = torch.tensor(images, dtype=torch.float64)
    assert float(top_hinge(x, margin, share)) == pytest.approx(literal.top_hinge(images, margin, share))
    expected = [literal.image_score(answers, share) for answers in images]
    np.testing.assert_allclose(image_scores(x, share).numpy(), expected, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(answers=st.lists(NUMBERS, min_size=5, max_size=5), a=st.floats(0, 1), b=st.floats(0, 1))
def test_a_smaller_share_scores_higher(answers: list[float], a: float, b: float) -> None:
    """0 is the maximum and 1 the mean; between them the score falls."""
    x = torch.tensor([answers], dtype=torch.float64)
    few, many = sorted((a, b))
    assert float(image_scores(x, few)) >= float(image_scores(x, many)) - 1e-12
    assert float(image_scores(x, 0.0)) == -min(answers)
    assert float(image_scores(x, 1.0)) == pytest.approx(-np.mean(answers))
    assert most_anomalous(x, 0.0).shape == (1, 1)


@pytest.mark.parametrize("way", ["patches", "top", "head"])
def test_anomalies_are_learned(way: str) -> None:
    """Each way in must tell anomalies from normals that noise alone does not."""
    normals, anomalies = InMemory(patches(24, 0.0, 0)), InMemory(patches(24, 0.0, 1))
    anomalies.values[:, :3] += 2.5  # a third of the patches
    way_in = small(anomaly_loss=way, anomaly_top=0.3, noise_weight=0.1, epochs=50)
    heads, _ = train_heads(normals, anomalies, settings=way_in, seed=0, device=CPU)
    unseen = patches(24, 0.0, 2)
    odd = patches(24, 0.0, 3)
    odd[:, :3] += 2.5
    with torch.no_grad():
        good, bad = heads.score(unseen, 0.0), heads.score(odd, 0.0)
    assert (bad[:, None] > good).float().mean() > 0.9


def test_noise_alone_finds_what_is_far() -> None:
    """Without anomalies: the published one-class way."""
    normals = InMemory(patches(24, 0.0, 0) * 0.2)
    heads, _ = train_heads(normals, None, settings=small(), seed=0, device=CPU)
    with torch.no_grad():
        good, bad = heads.score(patches(24, 0.0, 2) * 0.2, 0.0), heads.score(patches(24, 0.0, 3) * 2, 0.0)
    assert (bad[:, None] > good).float().mean() > 0.9
    assert not heads.head.weight.any() and not heads.head.bias.any()


def test_every_image_is_used_alike() -> None:
    """Each epoch reads each normal once, and no anomaly twice before all were read."""
    normals, anomalies = InMemory(patches(10, 0.0, 0)), InMemory(patches(4, 1.0, 1))
    train_heads(normals, anomalies, settings=small(epochs=2, batch_size=4), seed=0, device=CPU)
    assert [len(rows) for rows in normals.reads] == [4, 4, 2] * 2 == [len(rows) for rows in anomalies.reads]
    for epoch in range(2):
        assert sorted(np.concatenate(normals.reads[3 * epoch : 3 * epoch + 3])) == list(range(10))
        counts = np.bincount(np.concatenate(anomalies.reads[3 * epoch : 3 * epoch + 3]), minlength=4)
        assert counts.sum() == 10 and counts.max() - counts.min() <= 1


def test_standardised_normals() -> None:
    """Each dimension's mean is 0 and the mean variance is 1, over the patches of all normals, a last batch of 4 too."""
    values = patches(20, 3.0, 0) * torch.tensor([1.0, 10, 2, 5, 1, 1, 3, 0])
    one_class = small(epochs=1, standardise=True)
    heads, _ = train_heads(InMemory(values), None, settings=one_class, seed=0, device=CPU)
    x = ((values - heads.mean) * heads.scale).flatten(0, 1)
    torch.testing.assert_close(x.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.var(0, correction=0).mean(), torch.ones(()), atol=1e-3, rtol=0)
    alike, _ = train_heads(InMemory(torch.ones(9, 4, 8)), None, settings=one_class, seed=0, device=CPU)
    assert alike.scale.isfinite() and alike.answers(alike.adapt(values)).isfinite().all()


def test_the_batch_loss_is_the_sum_of_its_parts() -> None:
    """By hand with a discriminator in evaluation mode, without noise: D is then the same for normals and negatives."""
    heads = seeded(lambda: Heads(8, 4), CPU, seed=0).eval().requires_grad_(False)
    x, y = patches(3, 0.0, 0), patches(2, 1.0, 1)
    d_x, d_y = (heads.answers(heads.adapt(v)).flatten().tolist() for v in (x, y))
    s = small(noise=0.0, margin=0.4, noise_weight=0.5)
    generator = torch.Generator().manual_seed(0)
    own = literal.normal_hinge(d_x, 0.4) + 0.5 * literal.anomaly_hinge(d_x, 0.4)
    assert float(batch_loss(heads, x, None, s, generator)) == pytest.approx(own, rel=1e-5)
    both = own + literal.anomaly_hinge(d_y, 0.4)
    assert float(batch_loss(heads, x, y, s, generator)) == pytest.approx(both, rel=1e-5)


@pytest.fixture(scope="module")
def fitted() -> SimpleNet:
    return SimpleNet(settings=QUICK, backbone=BACKBONE, seed=1).fit(pictures(8), pictures(4, seed=1))


def test_the_backbone_stays_as_it_was(fitted: SimpleNet) -> None:
    """Frozen: no gradients, BatchNorm in evaluation mode, so that cached features stay true."""
    from kka.detectors.backbones import load_backbone

    before = load_backbone(BACKBONE, strides=QUICK.strides, seed=1).state_dict()
    after = fitted.graph_.extract.backbone
    assert all((before[name] == tensor).all() for name, tensor in after.state_dict().items())
    assert not any(module.training for module in fitted.graph_.modules())
    assert not any(p.requires_grad for p in after.parameters())


def test_the_map_holds_the_score(fitted: SimpleNet) -> None:
    """The image's score is the largest of the patches' scores, of which the map is made."""
    images = torch.from_numpy(pictures(3, seed=2))
    with torch.no_grad():
        maps = fitted.graph_.maps(images)
    scores = fitted.score(images.numpy())
    share = fitted.settings.score_top
    np.testing.assert_allclose(image_scores(-maps.flatten(1), share).numpy(), scores, rtol=1e-5)


def test_maps_of_a_cropped_frame() -> None:
    """The crop's map lies in the middle of the image; the margin goes on with the border's value."""
    cropped = dataclasses.replace(QUICK, size=96, crop=64, epochs=1)
    detector = SimpleNet(settings=cropped, backbone=BACKBONE).fit(pictures(8))
    maps = detector.score_map(pictures(2, size=96))
    assert maps.shape == (2, 96, 96)
    np.testing.assert_allclose(maps[:, 0, 20:70], maps[:, 15, 20:70], rtol=1e-5)
    assert detector.score_map(pictures(0)).shape == (0, 32, 32)


def test_features_are_computed_once(monkeypatch: pytest.MonkeyPatch, fitted: SimpleNet) -> None:
    """A second fit on the same images, with another seed for the heads' training, runs no backbone."""
    from kka.detectors import features

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the backbone ran")

    monkeypatch.setattr(features, "in_batches", never)
    again = dataclasses.replace(QUICK, epochs=1)
    detector = SimpleNet(settings=again, backbone=BACKBONE, seed=1).fit(pictures(8), pictures(4, seed=1))
    assert detector.noise_draws_ == 8
    with pytest.raises(AssertionError, match="the backbone ran"):
        detector.fit(pictures(8, seed=9))  # pictures that are in no cache


@pytest.mark.parametrize("change", [{"strides": (8, 32)}, {"dimension": 64}, {"size": 72}, {"size": 72, "crop": 72}])
def test_what_shapes_features_names_them(
    change: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backbones of other strides may hold the same weights: training on the wrong features would go unnoticed."""
    monkeypatch.setenv("KKA_CACHE", str(tmp_path))
    for chosen in (QUICK, dataclasses.replace(QUICK, **change)):  # type: ignore[arg-type]
        SimpleNet(settings=dataclasses.replace(chosen, epochs=1), backbone=BACKBONE, seed=1).fit(pictures(4))
    assert len(list((tmp_path / "features").iterdir())) == 2


@pytest.mark.slow
def test_onnx(fitted: SimpleNet, tmp_path: Path) -> None:
    """What goes to the edge: the same numbers by onnxruntime, at another batch size than the exported one."""
    onnxruntime = pytest.importorskip("onnxruntime")
    example = torch.from_numpy(pictures(2, seed=4))
    path = tmp_path / "graph.onnx"
    torch.onnx.export(
        fitted.graph(), (example,), str(path), input_names=["pixels"], output_names=["scores"], opset_version=18,
        dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1, max=64)}}, dynamo=True, verbose=False,
    )  # fmt: skip
    images = pictures(5, seed=5)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"pixels": images})[0]
    np.testing.assert_allclose(found, fitted.score(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": 400}, {"epochs": 0}, {"strides": (16, 8)}, {"strides": ()}, {"dimension": 7}, {"anomaly_loss": "mil"},
        {"noise": -1.0}, {"score_top": 1.5}, {"anomaly_top": -0.1}, {"batch_size": 0},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    """Named, before anything is computed."""
    with pytest.raises(UserError, match="expected"):
        SimpleNetSettings(**wrong)  # type: ignore[arg-type]


def test_progress_reaches_the_end() -> None:
    """The console's bar is driven by it."""
    seen: list[tuple[int, int]] = []
    detector = SimpleNet(settings=QUICK, backbone=BACKBONE, progress=lambda done, total: seen.append((done, total)))
    detector.fit(pictures(20))
    assert seen[-1][0] == seen[-1][1] and len(seen) == 2


@pytest.mark.parametrize("least", [0.0, 0.1, 0.5, 1.0])
def test_only_what_a_mask_covers_is_a_negative(least: float) -> None:
    """Patches of the photo around a defect would be taught to be anomalous."""
    generator = torch.Generator().manual_seed(0)
    answers = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    cover = torch.rand(3, 7, generator=generator, dtype=torch.float64).where(torch.arange(21).view(3, 7) % 3 > 0, 0)
    cover[0, 1] = 1
    expected = literal.masked_hinge(answers.tolist(), cover.tolist(), 0.5, least)
    assert float(masked_hinge(answers, cover, 0.5, least)) == pytest.approx(expected) and expected > 0
    assert float(masked_hinge(answers, torch.zeros(3, 7), 0.5, least)) == 0.0


def test_masks_say_where(tmp_path: Path) -> None:
    """Right and left of one square confused, and the map shows the defect on the wrong side."""
    rng = np.random.default_rng(0)
    normals = rng.integers(100, 140, (24, 64, 64, 3), dtype=np.uint8)
    odd, masks = normals.copy(), np.zeros((24, 64, 64), np.uint8)
    for i in range(24):
        top, left = rng.integers(0, 40, 2)
        odd[i, top : top + 24, left : left + 24] = 250
        masks[i, top : top + 24, left : left + 24] = 255
    settings = dataclasses.replace(QUICK, epochs=12, mask_weight=1.0, strides=(8, 16))
    detector = SimpleNet(settings=settings, backbone=BACKBONE).fit(normals, odd, masks=masks)
    shown = normals[:1].copy()
    shown[0, 4:28, 36:60] = 250
    found = detector.score_map(shown)[0]
    places = [(row, column) for row in (0, 32) for column in (0, 32)]
    corners = {(row, column): found[row : row + 32, column : column + 32].mean() for row, column in places}
    assert corners[0, 32] > max(corners[0, 0], corners[32, 0]) + 0.1 * found.std()  # 0.7 to 2 with other seeds


def test_what_changes_a_photo_as_a_whole_is_left_out() -> None:
    """Uneven light over all of a photo would make every patch of it a negative."""
    odd, masks = pictures(4, size=8), np.zeros((4, 8, 8), np.uint8)
    masks[0, :4, :4], masks[1, :4, :5], masks[2] = 255, 1, 255
    with pytest.warns(UserWarning, match="2 of 4 anomalies are masked over more than 25 %"):
        kept = small_ones(odd, masks, 0.25)
    assert kept[0] is not None and kept[1] is not None
    assert np.array_equal(kept[0], odd[[0, 3]]) and np.array_equal(kept[1], masks[[0, 3]])
    with pytest.warns(UserWarning, match="2 of 2"):
        assert small_ones(odd[1:3], masks[1:3], 0.25) == (None, None)
