"""Eq. 5: the loss, the centre, the network and its training."""

from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import kka.algorithm.deep_sad as module
from kka.algorithm.deep_sad import (
    DeepSAD,
    LeNet,
    centre_of,
    deep_sad_loss,
    embed_with,
    epoch_order,
    pretrain,
    squared_distance,
    train_deep_sad,
)
from kka.common.device import autocast_dtype, choose_device
from kka.errors import UserError
from kka.protocols import Images
from kka.settings.deep_sad import DeepSADSettings
from reference import deep_sad as reference

QUICK = DeepSADSettings(epochs=1, pretrain_epochs=1, milestones=(), precision="fp32", device="cpu")


def pictures(n: int, seed: int = 0, shape: tuple[int, int] = (16, 16)) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape, 3), dtype=np.uint8)


def same_bits(a: DeepSAD, b: DeepSAD) -> bool:
    pairs = zip(a.network.state_dict().items(), b.network.state_dict().items(), strict=True)
    return torch.equal(a.centre, b.centre) and all(k == m and torch.equal(v, w) for (k, v), (m, w) in pairs)


@pytest.fixture(scope="module")
def trained() -> DeepSAD:
    return train_deep_sad(pictures(20), pictures(12, seed=1), settings=QUICK, seed=0)


# --- the formulas ----------------------------------------------------------------------------------------------

number = st.floats(0, 100, width=32)


@given(items=st.lists(st.tuples(number, st.booleans()), min_size=1, max_size=20), eta=st.floats(0.1, 3))
def test_loss_is_eq_5(items: list[tuple[float, bool]], eta: float) -> None:
    """Against the formula by plain loops."""
    d, odd = [x for x, _ in items], [y for _, y in items]
    got = float(deep_sad_loss(torch.tensor(d, dtype=torch.float64), torch.tensor(odd), eta))
    assert got == pytest.approx(reference.loss(d, odd, eta), rel=1e-9)
    assert got >= 0


def test_loss_by_hand() -> None:
    """A normal at 3 and an anomaly at 0.5 with eta 2: (3 + 2 / 0.500001) / 2; and per-item weights."""
    d, odd = torch.tensor([3.0, 0.5]), torch.tensor([False, True])
    assert float(deep_sad_loss(d, odd, 2.0)) == pytest.approx((3 + 2 / 0.500001) / 2)
    assert float(deep_sad_loss(d, odd, 1.0, torch.tensor([2.0, 0.5]))) == pytest.approx((6 + 0.5 / 0.500001) / 2)


@given(d=st.floats(0, 50), more=st.floats(0.01, 50))
def test_normals_pull_and_anomalies_push(d: float, more: float) -> None:
    """The loss grows with a normal's distance and falls with an anomaly's: reversed, the labels would be swapped."""
    near, far = torch.tensor([d], dtype=torch.float64), torch.tensor([d + more], dtype=torch.float64)
    normal, anomaly = torch.tensor([False]), torch.tensor([True])
    assert deep_sad_loss(far, normal) > deep_sad_loss(near, normal)
    assert deep_sad_loss(far, anomaly) < deep_sad_loss(near, anomaly)


def test_an_anomaly_in_the_centre_has_a_finite_loss_and_gradient() -> None:
    """The 1e-6 of Eq. 5; without it the loss is infinite."""
    d = torch.zeros(1, requires_grad=True)
    value = deep_sad_loss(d, torch.tensor([True]))
    value.backward()
    assert float(value.detach()) == pytest.approx(1e6) and torch.isfinite(d.grad).all()


@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3), min_size=1, max_size=6))
def test_centre_is_the_mean_off_zero(rows: list[list[float]]) -> None:
    """Against loops; a component at zero could be reached with zero weights."""
    got = centre_of(torch.tensor(rows, dtype=torch.float64))
    assert got.tolist() == pytest.approx(reference.centre(rows))
    assert (got.abs() >= 0.1 - 1e-12).all()


def test_centre_by_hand() -> None:
    """0.05 becomes 0.1, -0.05 becomes -0.1, 0 becomes 0.1; 0.2 and -0.3 stay."""
    rows = torch.tensor([[0.05, -0.05, 0.0, 0.2, -0.3]])
    torch.testing.assert_close(centre_of(rows), torch.tensor([0.1, -0.1, 0.1, 0.2, -0.3]))


def test_distance_by_hand() -> None:
    """Squared, not rooted: (1 - 4)^2 + (2 - 6)^2 = 25."""
    z, c = torch.tensor([[1.0, 2.0], [4.0, 6.0]]), torch.tensor([4.0, 6.0])
    assert squared_distance(z, c).tolist() == [25, 0]
    assert reference.squared_distance([1, 2], [4, 6]) == 25


# --- the network -----------------------------------------------------------------------------------------------


def test_architecture() -> None:
    """Conv 3-32-64-128 of 5 x 5 and a linear 2048-128, none with a bias; the norms have no weights."""
    network = LeNet()
    by_hand = 5 * 5 * (3 * 32 + 32 * 64 + 64 * 128) + 128 * 4 * 4 * 128
    assert sum(p.numel() for p in network.parameters()) == by_hand == 520_544
    assert not any("bias" in name for name, _ in network.named_parameters())
    assert all(norm.eps == 1e-4 and norm.weight is None for norm in network.norms)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 128)


def test_forward_by_hand(trained: DeepSAD) -> None:
    """Each block: convolution, normalisation by the running statistics, leaky ReLU of slope .01, 2 x 2 maximum."""
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    state, z = trained.network.state_dict(), x
    for i in range(3):
        z = torch.conv2d(z, state[f"convs.{i}.weight"], padding=2)
        mean, variance = state[f"norms.{i}.running_mean"], state[f"norms.{i}.running_var"]
        z = (z - mean[:, None, None]) / (variance[:, None, None] + 1e-4).sqrt()
        z = torch.where(z > 0, z, 0.01 * z)
        z = z.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(-2, -1))
    expected = z.flatten(1) @ state["head.weight"].T
    with torch.no_grad():
        torch.testing.assert_close(trained.network(x), expected, atol=1e-4, rtol=1e-4)


# --- training --------------------------------------------------------------------------------------------------


def test_pretrained_weights_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published code's autoencoder transfers nothing. Here training starts from its encoder, to the bit."""
    normals = pictures(16)
    encoder = pretrain(normals, settings=QUICK, seed=5)
    untrained = pretrain(normals, settings=DeepSADSettings(pretrain_epochs=0, device="cpu"), seed=5)
    assert not torch.equal(encoder["convs.0.weight"], untrained["convs.0.weight"])
    begun = []
    original = module._fit

    def spy(network: nn.Module, *rest, **named) -> list[float]:
        begun.append({k: v.clone() for k, v in network.state_dict().items()})
        return original(network, *rest, **named)

    monkeypatch.setattr(module, "_fit", spy)
    model = train_deep_sad(normals, settings=QUICK, seed=5)
    autoencoder, deep_sad = begun
    assert set(deep_sad) == set(encoder)
    assert all(torch.equal(deep_sad[name], encoder[name]) for name in encoder)
    assert {k.removeprefix("0.") for k in autoencoder if k.startswith("0.")} == set(encoder)
    assert all(torch.equal(autoencoder[f"0.{name}"], untrained[name]) for name in encoder)
    # and the centre is the mean of exactly these weights' embeddings
    torch.testing.assert_close(model.centre, centre_of(torch.from_numpy(embed_with(encoder, normals, device="cpu"))))


def test_a_given_start_is_used() -> None:
    """One pretraining serves several detectors: handing it over must equal making it."""
    normals = pictures(12)
    start = pretrain(normals, settings=QUICK, seed=3)
    before = {k: v.clone() for k, v in start.items()}
    a = train_deep_sad(normals, settings=QUICK, seed=3, start=start)
    assert same_bits(a, train_deep_sad(normals, settings=QUICK, seed=3))
    assert all(torch.equal(start[k], before[k]) for k in start)  # training must not write into it


def test_autoencoder_learns_to_reconstruct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss falls: a decoder that cannot reach normalised pixels (a sigmoid) would not."""
    histories = []
    original = module._fit
    monkeypatch.setattr(module, "_fit", lambda *a, **k: histories.append(original(*a, **k)) or histories[-1])
    settings = DeepSADSettings(pretrain_epochs=12, milestones=(), batch_size=8, precision="fp32", device="cpu")
    flat = np.repeat(np.linspace(0, 255, 16, dtype=np.uint8)[:, None, None, None], 16, axis=1)
    pretrain(np.broadcast_to(flat, (16, 16, 16, 3)).copy(), settings=settings, seed=0)
    assert histories[0][-1] < 0.7 * histories[0][0]


def test_weight_decay_is_the_gradient_of_half_lambda_w_squared() -> None:
    """Eq. 5's last term by Adam's weight decay must equal adding lambda/2 ||W||^2 to the loss."""
    decay, nets = 0.3, []
    for in_the_loss in (False, True):
        torch.manual_seed(0)
        net = nn.Linear(3, 2, bias=False)

        def loss(batch, index, net=net, in_the_loss=in_the_loss):
            value = net(batch.mean(dim=(2, 3))).square().mean()
            return value + decay / 2 * net.weight.square().sum() if in_the_loss else value

        pixels = torch.from_numpy(pictures(8)).permute(0, 3, 1, 2)
        module._fit(net, loss, pixels, QUICK, 3, 1e-2, 0.0 if in_the_loss else decay, seed=0)
        nets.append(net.weight.detach())
    torch.testing.assert_close(nets[0], nets[1])


def test_learning_rate_falls_at_the_milestones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth after each milestone, as published."""
    rates = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self, *a: (rates.append(self.param_groups[0]["lr"]), step(self, *a))[1]
    )
    settings = DeepSADSettings(
        epochs=4, pretrain_epochs=0, milestones=(0.25, 0.75), learning_rate=1e-2, batch_size=8, precision="fp32",
        device="cpu",
    )
    train_deep_sad(pictures(8), settings=settings, seed=0)
    assert rates == pytest.approx([1e-2, 1e-3, 1e-3, 1e-4])


def test_equal_seeds_equal_networks_and_the_callers_randomness_is_left_alone() -> None:
    """Resuming relies on the first; torch's global generator must neither steer training nor be moved by it."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a = train_deep_sad(pictures(10), pictures(5, seed=1), settings=QUICK, seed=7)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    b = train_deep_sad(pictures(10), pictures(5, seed=1), settings=QUICK, seed=7)
    assert same_bits(a, b) and a.losses == b.losses
    assert not same_bits(a, train_deep_sad(pictures(10), pictures(5, seed=1), settings=QUICK, seed=8))


def test_no_anomalies_is_none_or_an_empty_array() -> None:
    """A round may leave nothing; plain deep SVDD then."""
    a = train_deep_sad(pictures(9), settings=QUICK, seed=0)
    b = train_deep_sad(pictures(9), np.zeros((0, 16, 16, 3), np.uint8), settings=QUICK, seed=0)
    assert same_bits(a, b)


def test_labelled_anomalies_move_away() -> None:
    """Trained with blue labelled as anomalous, blue must score higher against red than without."""
    rng = np.random.default_rng(0)
    red, blue = (
        (np.array(color) + rng.normal(0, 15, (24, 16, 16, 3))).clip(0, 255).astype(np.uint8)
        for color in ((190, 60, 60), (60, 60, 190))
    )
    settings = DeepSADSettings(
        epochs=12, pretrain_epochs=1, milestones=(), learning_rate=1e-3, precision="fp32", device="cpu"
    )
    with_blue = train_deep_sad(red[:16], blue[:16], settings=settings, seed=0)
    normal, odd = with_blue.score(red[16:]), with_blue.score(blue[16:])
    assert odd.min() > 1.5 * normal.max()
    assert with_blue.losses[-1] < with_blue.losses[0]


def test_settings_for_anomalies_reach_the_training() -> None:
    """Weights by hardness, for the right images; and a bound that shortens the epochs."""
    normals, anomalies = pictures(8), pictures(24, seed=1)
    hard = np.arange(24) < 6

    def losses(flags: np.ndarray | None = hard, **changes: float) -> list[float]:
        settings = replace(QUICK, batch_size=8, **changes)
        return train_deep_sad(normals, anomalies, settings=settings, seed=0, hard=flags).losses

    plain = losses()
    assert losses(None) == plain
    by_hardness = [losses(hard_weight=3.0), losses(~hard, hard_weight=3.0), plain]
    assert len({tuple(found) for found in by_hardness}) == 3
    steps: list[int] = []
    settings = replace(QUICK, batch_size=8, epochs=2, max_anomaly_ratio=1.0)
    train_deep_sad(normals, anomalies, settings=settings, seed=0, progress=lambda done, total: steps.append(done))
    assert steps[-1] == 2 * 2  # 8 normals and 8 of the 24 anomalies an epoch


def test_scores_of_any_size_any_batch_and_none(trained: DeepSAD) -> None:
    """Scores must not hang on the batch split; images of other sizes are resized; no images give no scores."""
    images = pictures(9, seed=4)
    whole = trained.score(images)
    assert whole.shape == (9,) and whole.dtype == np.float32 and (whole >= 0).all()
    parts = [trained.score(images[i : i + 2]) for i in range(0, 9, 2)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4)
    for shape in ((32, 32), (20, 31), (100, 60), (1, 1)):
        assert np.isfinite(trained.score(pictures(3, shape=shape))).all()
    assert trained.score(images[:0]).shape == (0,)
    embedded = trained.embed(images)
    np.testing.assert_allclose(((embedded - trained.centre.numpy()) ** 2).sum(axis=1), whole, rtol=1e-4)


def test_large_pictures_score_as_if_resized_first(trained: DeepSAD) -> None:
    """More than 512 are handled in parts: each image must keep its place."""
    images = np.repeat(np.arange(0, 256, 8, dtype=np.uint8), 40)[:1200, None, None, None]
    images = np.broadcast_to(images, (1200, 8, 8, 3)).copy()
    scores = trained.score(images)
    np.testing.assert_allclose(scores[::40], trained.score(images[::40]), rtol=1e-4)


def test_anomalies_of_another_size_than_the_normals() -> None:
    """A pool drawn at another size than the photos."""
    model = train_deep_sad(pictures(8, shape=(20, 40)), pictures(5, shape=(90, 70)), settings=QUICK, seed=0)
    assert np.isfinite(model.losses).all()


def test_one_normal_a_batch_of_one_and_all_black() -> None:
    """Degenerate input must train without NaN."""
    settings = DeepSADSettings(
        epochs=1, pretrain_epochs=1, milestones=(), batch_size=1, precision="fp32", device="cpu"
    )
    black = np.zeros((4, 8, 8, 3), np.uint8)
    model = train_deep_sad(black[:3], black[3:], settings=settings, seed=0)
    assert np.isfinite(model.score(pictures(2))).all()


def test_progress_reaches_its_end() -> None:
    """The display would otherwise stop short."""
    told: list[tuple[int, int]] = []
    settings = DeepSADSettings(
        epochs=3, pretrain_epochs=0, milestones=(), batch_size=4, precision="fp32", device="cpu"
    )
    train_deep_sad(pictures(8), settings=settings, seed=0, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 6), (4, 6), (6, 6)]


def test_save_and_load_to_the_bit(trained: DeepSAD, tmp_path: Path) -> None:
    """A resumed run judges by the loaded network: one bit off and it goes another way."""
    trained.save(tmp_path / "new" / "folder")
    loaded = DeepSAD.load(tmp_path / "new" / "folder", device="cpu")
    assert same_bits(trained, loaded) and loaded.losses == trained.losses
    images = pictures(7, seed=9)
    assert (loaded.score(images) == trained.score(images)).all()
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["deep_sad.safetensors"]


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}, {"precision": "fp16"}, {"learning_rate": -1.0}])
def test_settings_are_checked(wrong: dict) -> None:
    """Zero epochs would return an untrained network in silence."""
    with pytest.raises(UserError, match=next(iter(wrong))):
        DeepSADSettings(**wrong)


def test_devices_and_precision() -> None:
    """fp32 is never autocast; bf16 always is; an explicit device is taken as it is."""
    cpu = choose_device("cpu")
    assert cpu.type == "cpu" and choose_device("auto").type in ("cpu", "cuda", "mps")
    assert autocast_dtype("fp32", cpu) is None and autocast_dtype("bf16", cpu) is torch.bfloat16
    assert autocast_dtype("auto", cpu) is None  # on a CPU that has bf16 too: one command, one result
    for has, expected in ((True, torch.bfloat16), (False, None)):
        with mock.patch.object(torch.cuda, "is_bf16_supported", return_value=has):
            assert autocast_dtype("auto", torch.device("cuda")) is expected
    settings = DeepSADSettings(epochs=1, pretrain_epochs=0, milestones=(), precision="bf16", device="cpu")
    model = train_deep_sad(pictures(6), settings=settings, seed=0)
    assert all(v.dtype is torch.float32 for k, v in model.network.state_dict().items() if "tracked" not in k)
    assert model.score(pictures(2)).dtype == np.float32


def test_errors_are_for_people() -> None:
    """A wrong number from the command line must not end in a traceback."""
    from kka.settings.deep_sad import DeepSADSettings

    with pytest.raises(UserError, match=r"sad\.epochs"):
        DeepSADSettings(epochs=0)


def test_an_epoch_with_few_normals() -> None:
    """All normals and twice as many anomalies, other ones each time; all of them without a bound; never none."""
    generator = torch.Generator().manual_seed(0)
    whole = epoch_order(5, 100, None, generator)
    assert sorted(whole.tolist()) == list(range(105))
    seen = set()
    for _ in range(100):
        order = epoch_order(5, 100, 2.0, generator).tolist()
        assert sorted(i for i in order if i < 5) == list(range(5)) and len(order) == 15
        seen |= set(order)
    assert seen == set(range(105))
    places = [epoch_order(5, 100, 2.0, generator).tolist().index(0) for _ in range(200)]
    assert set(places) == set(range(15))  # normals stand anywhere among them
    assert len(epoch_order(5, 100, 0.01, generator)) == 6 and len(epoch_order(5, 0, 0.01, generator)) == 5
