"""ReContrast's network and training. What all detectors share is in test_detector_contract."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from kka.detectors.backbones import load_backbone
from kka.detectors.graph import Preprocess
from kka.detectors.recontrast.detector import ReContrast
from kka.detectors.recontrast.network import ReContrastNet
from kka.detectors.recontrast.settings import ReContrastSettings
from kka.detectors.recontrast.training import Beside, _losses, _train_mode, settle_batchnorm
from kka.errors import UserError
from kka.protocols import Images
from kka.settings.backbone import BackboneSettings

BACKBONE = BackboneSettings(name="mobilenetv2_035", weights="random")
QUICK = ReContrastSettings(size=32, iterations=6, batch_size=4, anomalies_per_batch=2, pooling="mean")
PREPARE = Preprocess(32)


def pictures(n: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def network() -> ReContrastNet:
    return ReContrastNet(load_backbone(BACKBONE, strides=(4, 8, 16)))


@pytest.mark.parametrize("name", ["mobilenetv2_035", "resnet18"])
def test_six_pairs_of_equal_shape(name: str) -> None:
    """Each decoded map must fit its target, for any backbone's channels."""
    net = ReContrastNet(load_backbone(BackboneSettings(name=name, weights="random"), strides=(4, 8, 16)))
    targets, decoded = net(torch.randn(2, 3, 64, 64))
    assert [t.shape for t in targets] == [d.shape for d in decoded] and len(targets) == 6
    assert [t.shape[-1] for t in targets] == [16, 8, 4] * 2


def test_each_side_is_decoded_from_the_other() -> None:
    """Swapped halves would let each encoder reconstruct itself, and nothing would be contrasted."""
    net = network().eval()
    x = torch.randn(2, 3, 32, 32)
    before_targets, before = net(x)
    with torch.no_grad():
        for p in net.encoder.parameters():
            p.mul_(1.5)
    after_targets, after = net(x)
    assert all((a == b).all() for a, b in zip(before_targets[:3], after_targets[:3], strict=True))  # frozen targets
    assert all((a != b).any() for a, b in zip(before[:3], after[:3], strict=True))  # decoded from the trainable one
    assert all((a != b).any() for a, b in zip(before_targets[3:], after_targets[3:], strict=True))
    assert all((a == b).all() for a, b in zip(before[3:], after[3:], strict=True))  # decoded from the frozen one


def trained(**changes: object) -> ReContrast:
    return ReContrast(settings=dataclasses.replace(QUICK, **changes), backbone=BACKBONE, seed=1)  # type: ignore[arg-type]


def test_what_is_trained_and_what_is_not() -> None:
    """The frozen encoder stays to the bit; the trainable one moves."""
    detector = trained(encoder_learning_rate=1e-3).fit(pictures(8), pictures(3, seed=1))
    frozen = load_backbone(BACKBONE, strides=(4, 8, 16), seed=1)
    parts = detector.graph_.network
    assert all((a == b).all() for a, b in zip(parts.frozen.parameters(), frozen.parameters(), strict=True))
    assert any((a != b).any() for a, b in zip(parts.encoder.parameters(), frozen.parameters(), strict=True))
    assert not any(m.training for m in parts.modules())


@pytest.mark.parametrize(
    ("mode", "anomalies", "moves"),
    [("eval", 3, False), ("train", 0, True), ("auto", 0, False), ("auto", 3, True)],
)  # fmt: skip
def test_statistics_of_the_encoder(mode: str, anomalies: int, moves: bool) -> None:
    """Those of the trainable encoder follow the batches where the mode says so; auto: beside anomalies alone."""
    detector = trained(encoder_batchnorm=mode).fit(pictures(8), pictures(3, seed=1) if anomalies else None)
    network = detector.graph_.network
    settled, found = (dict(encoder.named_buffers()) for encoder in (network.frozen, network.encoder))
    assert any((found[name] != settled[name]).any() for name in settled) == moves


def test_the_margin_joins_the_loss_with_its_weight() -> None:
    """Literally: weight x mean over the anomalies alone of max(0, margin - d), d the mean of 1 - cos of six pairs."""
    net, x = network().eval(), torch.randn(5, 3, 32, 32)
    settings = dataclasses.replace(QUICK, margin=1.5, anomaly_weight=3.0)
    loss, total = _losses(net, x, Beside(3, None, PREPARE), 1.0, settings)
    hinges = []
    for image in range(3, 5):
        pairs = [(t[image].flatten().detach(), d[image].flatten().detach()) for t, d in zip(*net(x), strict=True)]
        apart = [1 - float(t @ d) / float(t.norm() * d.norm()) for t, d in pairs]
        hinges.append(max(0.0, 1.5 - sum(apart) / 6))
    assert float((total - loss).detach()) == pytest.approx(3.0 * sum(hinges) / 2, rel=1e-4) and sum(hinges) > 0
    alone, same = _losses(net, x[:3], Beside(3, None, PREPARE), 1.0, settings)
    assert alone.item() == same.item() == pytest.approx(loss.item(), rel=1e-5)


def test_rates_of_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published rate would leave random weights random; what is set goes before either."""
    from kka.detectors.recontrast import training as recontrast_train

    rates: list[float] = []
    original = torch.optim.AdamW

    def noted(groups: list[dict], **options: object) -> torch.optim.AdamW:
        rates.append(groups[0]["lr"])
        return original(groups, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(recontrast_train.torch.optim, "AdamW", noted)
    trained(iterations=1).fit(pictures(8))
    trained(iterations=1, encoder_learning_rate=1e-4).fit(pictures(8))
    encoder = load_backbone(BACKBONE, strides=(4, 8, 16), seed=1)
    prepare = trained(iterations=1).fit(pictures(8)).graph_.prepare
    recontrast_train.train_recontrast(
        ReContrastNet(encoder), prepare, pictures(8), None, dataclasses.replace(QUICK, iterations=1), seed=0,
        untrained=False,
    )  # fmt: skip
    assert rates == [1e-3, 1e-4, 1e-3, 1e-5]


def test_the_margin_can_stop_before_the_encoder() -> None:
    """`anomaly_encoder` off: with a margin alone, the trainable encoder must not move for the anomalies' sake."""
    net, x = network(), torch.randn(4, 3, 32, 32)
    gradients = {}
    for through in (True, False):
        _train_mode(net, by_batch=False)
        net.zero_grad()
        settings = dataclasses.replace(QUICK, anomaly_encoder=through, margin=2.0)
        loss, total = _losses(net, x, Beside(2, None, PREPARE), 1.0, settings)
        (total - loss).backward()
        gradients[through] = sum(float(p.grad.abs().sum()) for p in net.encoder.parameters() if p.grad is not None)
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.decoder.parameters())
    assert gradients[True] > 0 == gradients[False]


def test_batchnorm_settles_on_the_normals() -> None:
    """Without pre-training, a layer's statistics must be those of what passes through it."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    x = 5 + 3 * torch.randn(64, 3, 4, 4)
    settle_batchnorm(module, [x[:32], x[32:]])
    y = module(x)
    assert y.mean().abs() < 0.02 and (y.std() - 1).abs() < 0.02
    assert not module.training and module[1].momentum == 0.1


def test_losses_fall_and_are_kept() -> None:
    """The figure of convergence reads them."""
    detector = trained(iterations=25).fit(pictures(8))
    assert len(detector.losses_) == 25 and np.mean(detector.losses_[-5:]) < np.mean(detector.losses_[:5])


def test_epochs_are_told_and_change_nothing() -> None:
    """Scoring in between is for a figure alone: it must leave the training as it was."""
    plain, watched = trained().fit(pictures(8)), trained()
    seen: list[float] = []
    watched.on_epoch = lambda epoch: seen.append(float(watched.score(pictures(2, seed=3))[0]))
    watched.fit(pictures(8))
    assert len(seen) == 3 and len(set(seen)) == 3
    assert (watched.score(pictures(3, seed=4)) == plain.score(pictures(3, seed=4))).all()


def test_pooling() -> None:
    """A defect somewhere: the map's maximum; another thing altogether: its mean."""
    detector = trained().fit(pictures(8))
    maps = detector.graph_.maps(torch.from_numpy(pictures(3, seed=5))).detach().numpy()
    np.testing.assert_allclose(detector.score(pictures(3, seed=5)), maps.mean(axis=(1, 2)), rtol=1e-5)
    detector.graph_.pooling = "max"
    np.testing.assert_allclose(detector.score(pictures(3, seed=5)), maps.max(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"size": 100}, "multiple of 32; got 100"), ({"pooling": "median"}, "expected pooling to be 'max' or 'mean'"),
     ({"iterations": 0}, "got iterations = 0"), ({"encoder_batchnorm": "off"}, "'auto', 'eval' or 'train'"),
     ({"anomaly_top": 0.0}, "anomaly_top to be a number above 0")],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong: dict[str, object], said: str) -> None:
    """In words, before anything is trained."""
    with pytest.raises(UserError, match=said):
        ReContrastSettings(**wrong)  # type: ignore[arg-type]
