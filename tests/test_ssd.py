"""The SSD detector, its encoder and its score."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50

from kka.algorithm.mahalanobis import fit_clusters
from kka.common.device import seeded
from kka.detectors import load_detector
from kka.detectors.contrastive.density import FeatureScore, Gaussians, fit_feature_score
from kka.detectors.contrastive.network import EMBEDDING, Head, ImageNetwork, ResNet, Subsampled
from kka.detectors.contrastive.ssd import SSD, SSDSettings
from kka.detectors.contrastive.training import TrainingImages, steps_of
from kka.detectors.graph import in_batches
from kka.errors import UserError
from kka.protocols import Images
from reference import feature_score as reference

QUICK = SSDSettings(
    depth=10, width=4, size=16, epochs=2, batch_size=8, learning_rate=0.05, precision="fp32", device="cpu"
)
SHAPE = dict(depth=10, width=2, size=16, clusters=1)


def pictures(n: int, seed: int = 0, size: int = 16) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("depth", "whole"), [(18, resnet18), (50, resnet50)])
def test_the_encoder_is_the_usual_resnet_with_a_cifar_stem(depth: int, whole: object) -> None:
    """Another block, stride or order would be another network than the published one."""
    ours = ResNet(depth, 64).eval()
    theirs = whole()  # type: ignore[operator]
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs.eval()(images), rtol=1e-4, atol=1e-5)
    assert ours.features == {18: 512, 50: 2048}[depth]


def test_the_head_is_the_published_one() -> None:
    """2048 -> 2048 -> 128 of length 1; and no ReLU at the end, which would keep vectors in one corner."""
    with torch.device("meta"):
        network = ImageNetwork(50, 64)
    assert [layer.weight.shape for layer in network.head.layers] == [(2048, 2048), (EMBEDDING, 2048)]
    out = Head(6, 6, 5)(torch.randn(40, 6))
    assert torch.allclose(out.norm(dim=1), torch.ones(40)) and (out < 0).any()


def test_gaussians_are_eq_1() -> None:
    """The Cholesky factor on the wrong side gives another distance; with clusters, the nearest one counts."""
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(20, 4)) @ rng.normal(size=(4, 4)) + 9 * j for j in range(3)])
    asked = rng.normal(9, 9, (7, 4))
    expected = fit_clusters(features, 3, seed=0).score(asked).min(axis=1)
    ours = Gaussians(3, 4).fill(features, seed=0)(torch.from_numpy(asked).float())
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("with_anomalies", [False, True])
def test_the_score_is_the_formula(with_anomalies: bool) -> None:
    """Standardised before it is brought to length 1, by the anomalies too, or with the wrong sign."""
    device = torch.device("cpu")
    encoder = seeded(lambda: ResNet(10, 2), device, seed=0)
    noise = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    encoder.train()(noise)  # BatchNorm's statistics, without which features hardly vary
    normals, anomalies, asked = pictures(60), pictures(50, seed=1) // 2, pictures(6, seed=2)
    model = fit_feature_score(
        encoder, normals, anomalies if with_anomalies else None, shape=SHAPE, device=device, seed=0
    )

    def features(images: Images) -> np.ndarray:
        return in_batches(lambda x: model.encoder(model.prepare(x)), images, device).astype(float)

    expected = reference.score(features(normals), features(anomalies) if with_anomalies else None, features(asked))
    np.testing.assert_allclose(in_batches(model, asked, device), expected, rtol=2e-3)


def test_dead_features_do_not_divide_by_zero() -> None:
    """An encoder that answers every image alike: deviation 0, and still finite scores, none below 0."""
    device = torch.device("cpu")
    encoder = seeded(lambda: ResNet(10, 2), device, seed=0)
    with torch.no_grad():
        encoder.conv1.weight.zero_()
        encoder.layer4[-1].bn2.bias.fill_(1.0)  # the same answer to every image, and not 0
    model = fit_feature_score(encoder, pictures(8), None, shape=SHAPE, device=device, seed=0)
    scores = in_batches(model, pictures(5, seed=1), device)
    assert np.isfinite(scores).all() and (scores >= 0).all()


def test_batches_leave_no_image_alone() -> None:
    """More than the data, a remainder of 1, one image: a batch of one would have nothing to contrast."""
    for n, batch in ((5, 512), (33, 32), (65, 32), (1, 8)):
        steps = steps_of(n, dataclasses.replace(QUICK, batch_size=batch))
        sizes = [len(part) for part in torch.arange(n).tensor_split(steps)]
        assert sum(sizes) == n and (min(sizes) >= 2 or n == 1)


def test_negatives_are_as_many_as_asked_and_distinct() -> None:
    """200 anomalies beside 8 normals must not make every step 25 times as dear; 1 anomaly is enough."""
    stock = TrainingImages(pictures(8), pictures(20, seed=1), torch.device("cpu"), size=16)
    generator = torch.Generator().manual_seed(0)
    chosen = stock.negatives(6, generator)
    assert chosen is not None and len(chosen.unique(dim=0)) == 6
    again = stock.negatives(6, generator)
    assert again is not None and not torch.equal(chosen, again)
    few = TrainingImages(pictures(8), pictures(1, seed=1), torch.device("cpu"), size=16).negatives(6, generator)
    assert few is not None and len(few) == 1
    assert TrainingImages(pictures(8), None, torch.device("cpu"), size=16).negatives(6, generator) is None


@pytest.mark.parametrize("n", [1, 2])
def test_hardly_any_normals(n: int) -> None:
    """One picture, which has no other to be told from, and two."""
    detector = SSD(settings=QUICK).fit(pictures(n))
    assert np.isfinite(detector.score(pictures(3, seed=1))).all()


def test_anomalies_act_in_training_and_in_the_score() -> None:
    """`outlier_score=False` must leave them as negatives; with it, their Gaussian is there and is subtracted."""
    normals, anomalies, images = pictures(12), pictures(9, seed=1), pictures(4, seed=2)
    plain = SSD(settings=QUICK).fit(normals).score(images)
    negatives = SSD(settings=dataclasses.replace(QUICK, outlier_score=False)).fit(normals, anomalies)
    both = SSD(settings=QUICK).fit(normals, anomalies)
    assert negatives.model_.outliers is None and (negatives.score(images) != plain).any()
    outliers = both.model_.outliers
    assert outliers is not None
    both.model_.outliers = None
    distance = both.score(images)
    both.model_.outliers = outliers
    np.testing.assert_allclose(distance, negatives.score(images), rtol=1e-5)  # the same training
    assert (both.score(images) < distance).all()


def test_clusters_and_their_return_from_disk(tmp_path: Path) -> None:
    """K changes the shape of what is saved; more clusters than normals is refused in words."""
    detector = SSD(settings=dataclasses.replace(QUICK, clusters=3)).fit(pictures(20), pictures(4, seed=1))
    detector.save(tmp_path)
    loaded = load_detector(tmp_path)
    images = pictures(5, seed=2)
    assert (loaded.score(images) == detector.score(images)).all()
    assert isinstance(loaded, SSD) and loaded.settings == detector.settings
    with pytest.raises(UserError, match="clusters: expected 1 to 4"):
        SSD(settings=dataclasses.replace(QUICK, clusters=5)).fit(pictures(4))


def test_progress_counts_to_the_end() -> None:
    """A bar that never fills, or that goes past its end."""
    calls: list[tuple[int, int]] = []
    SSD(settings=QUICK, progress=lambda done, total: calls.append((done, total))).fit(pictures(16))
    assert calls == [(2, 4), (4, 4)]


def test_presets() -> None:
    """The published preset is the card: a slip would show in no other test."""
    published = SSD.PRESETS["published"]
    assert published == SSDSettings() and set(SSD.PRESETS) == {"published", "small", "cpu"}
    card = (50, 64, 32, 500, 512, 0.5, 0.9, 1e-4, 0.5, 1)
    s = published
    assert card == (
        s.depth, s.width, s.size, s.epochs, s.batch_size, s.learning_rate, s.momentum, s.weight_decay, s.temperature,
        s.clusters,
    )  # fmt: skip
    assert SSD().input_size == 64


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (dict(depth=20), "depth to be 10, 18, 34, 50 or 101; got depth = 20"),
        (dict(epochs=0), "got epochs = 0"),
        (dict(temperature=-1.0), "temperature to be a number above 0"),
        (dict(precision="half"), "precision to be 'auto', 'fp32' or 'bf16'; got precision = 'half'"),
    ],
)
def test_settings_are_checked(wrong: dict, said: str) -> None:
    """A typing slip would end in a traceback minutes later."""
    with pytest.raises(UserError, match=said):
        SSDSettings(**wrong)


def test_export() -> None:
    """The graph must be one that ONNX has operations for, and give the scores of other batch sizes too."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the optional package onnxruntime is absent")
    detector = SSD(settings=dataclasses.replace(QUICK, clusters=2)).fit(pictures(20), pictures(4, seed=1))
    graph = detector.graph()
    assert isinstance(graph, FeatureScore)
    images = pictures(3, seed=2)
    program = torch.onnx.export(
        graph, (torch.from_numpy(images),), dynamo=True, opset_version=18, verbose=False, input_names=["pixels"],
        dynamic_shapes=[{0: torch.export.Dim("batch")}],
    )  # fmt: skip
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    more = pictures(5, seed=3)
    np.testing.assert_allclose(session.run(None, {"pixels": more})[0], detector.score(more), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("channels", [1, 2, 4, 8, 16])
def test_the_shortcut_is_a_strided_convolution(channels: int) -> None:
    """Against sums over every second pixel; torch's own strided 1x1 convolution ends the process on some CPUs."""
    torch.manual_seed(0)
    shortcut = Subsampled(channels, 2 * channels, 1, stride=2, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(16, channels, 16, 16).to(memory_format=torch.channels_last).requires_grad_()
    for _ in range(10):
        shortcut.zero_grad()
        y = shortcut(x)
        y.square().sum().backward()
    kept = x.detach()[:, :, ::2, ::2]
    expected = torch.einsum("oi,bihw->bohw", shortcut.weight.detach()[:, :, 0, 0], kept)
    torch.testing.assert_close(y.detach(), expected, rtol=1e-4, atol=1e-4)
    gradient = torch.einsum("bohw,bihw->oi", 2 * expected, kept)
    assert shortcut.weight.grad is not None
    torch.testing.assert_close(shortcut.weight.grad[:, :, 0, 0], gradient, rtol=1e-3, atol=1e-2)


def test_a_narrow_network_trains_in_a_process_of_its_own() -> None:
    """oneDNN's backward of a strided 1x1 convolution in channels-last with fewer than 8 channels ends the process on
    some processors: a signal, and no error that a test of this process could catch."""
    code = (
        "import numpy as np; from kka.detectors import build_detector\n"
        "x = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)\n"
        "d = build_detector('ssd', preset='cpu', overrides=('epochs=1', 'width=4', 'size=16')).fit(x)\n"
        "print(np.isfinite(d.score(x)).all())\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr
