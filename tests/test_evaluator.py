"""The confusion evaluator: cross-fitting and the paper's rule."""

from pathlib import Path

import numpy as np
import pytest

import kka.algorithm.evaluator as module
from kka.algorithm.evaluator import ConfusionEvaluator, train_evaluator
from kka.errors import UserError
from kka.protocols import Images
from kka.settings.deep_sad import DeepSADSettings

QUICK = DeepSADSettings(epochs=1, pretrain_epochs=1, milestones=(), precision="fp32", device="cpu")


def numbered(start: int, n: int) -> Images:
    """n pictures that carry their number in every pixel: what a network has seen can be read off."""
    return np.broadcast_to(np.arange(start, start + n, dtype=np.uint8)[:, None, None, None], (n, 8, 8, 3)).copy()


def numbers(images: Images | None) -> list[int]:
    return [] if images is None else images[:, 0, 0, 0].tolist()


class Spy:
    """Stands for a trained network: remembers what it was trained on and what it judged."""

    made: list["Spy"]

    def __init__(self, normals: Images, anomalies: Images | None, **named) -> None:
        self.trained = set(numbers(normals)) | set(numbers(anomalies))
        self.started_from = named.get("start")
        self.judged: list[int] = []
        Spy.made.append(self)

    def score(self, images: Images) -> np.ndarray:
        self.judged += numbers(images)
        return images[:, 0, 0, 0].astype(np.float32) + 1


@pytest.fixture
def spies(monkeypatch: pytest.MonkeyPatch) -> list[Spy]:
    Spy.made = []
    monkeypatch.setattr(module, "train_deep_sad", Spy)
    # the pretrained weights are named by what they saw
    monkeypatch.setattr(module, "pretrain", lambda normals, **_: set(numbers(normals)))
    # the stand-ins are no DeepSADs
    monkeypatch.setattr(module.ConfusionEvaluator, "__init__", lambda self, **parts: self.__dict__.update(parts))
    return Spy.made


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_no_network_judges_what_it_trained_on(spies: list[Spy], folds: int) -> None:
    """A network knows its training anomalies by heart: judged by it, none of them would be hard."""
    _, relative = train_evaluator(
        numbered(0, 13), numbered(100, 17), settings=QUICK, folds=folds, quantile=0.9, seed=1, fold_seed=2
    )
    assert len(spies) == folds and relative.shape == (17,)
    for spy in spies:
        assert spy.judged and not spy.trained & set(spy.judged)
        assert not set(spy.started_from) & set(spy.judged)  # nor its autoencoder
        assert set(spy.started_from) == {i for i in spy.trained if i < 100}
    assert sorted(i for spy in spies for i in spy.judged) == [*range(13), *range(100, 117)]


def test_each_anomaly_against_its_own_folds_normals(spies: list[Spy]) -> None:
    """Distances of two networks are not comparable: the threshold must come from the network that judges."""
    _, relative = train_evaluator(
        numbered(0, 10), numbered(100, 8), settings=QUICK, folds=2, quantile=1.0, seed=0, fold_seed=0
    )
    for spy in spies:
        held_out = [i + 1 for i in spy.judged if i < 100]
        for anomaly in (i for i in spy.judged if i >= 100):
            assert relative[anomaly - 100] == pytest.approx((anomaly + 1) / max(held_out))


def test_normals_are_dealt_alike_in_every_round_and_anomalies_anew(spies: list[Spy]) -> None:
    """Rounds judged by other normals would not be comparable."""
    for seed in (1, 2):
        train_evaluator(numbered(0, 12), numbered(100, 30), settings=QUICK, quantile=0.9, seed=seed, fold_seed=7)
    normals = [{i for i in spy.trained if i < 100} for spy in spies]
    anomalies = [{i for i in spy.trained if i >= 100} for spy in spies]
    assert normals[:2] == normals[2:]
    assert anomalies[:2] != anomalies[2:]


@pytest.mark.parametrize("folds", [2, 3])
def test_an_altered_normal_is_judged_by_a_network_that_did_not_train_on_it(spies: list[Spy], folds: int) -> None:
    """It would know all of it but the defect. Anomaly 100 + i is normal i altered, but for the last three."""
    of = np.array([*range(13), -1, -1, -1])
    evaluator, relative = train_evaluator(
        numbered(0, 13), numbered(100, 16), settings=QUICK, folds=folds, quantile=1.0, seed=1, fold_seed=2, normal_of=of
    )
    for spy in spies:
        altered = {i - 100 for i in spy.judged if 100 <= i < 113}
        assert altered == {i for i in spy.judged if i < 100}  # the held-out normals, and these altered
    assert sorted(i for spy in spies for i in spy.judged if i >= 100) == [*range(100, 116)]
    assert evaluator.normal_fold is not None
    for fold, spy in enumerate(spies):
        assert set(np.flatnonzero(evaluator.normal_fold == fold)) == {i for i in spy.judged if i < 100}
    assert evaluator.judge(numbered(100, 13), of[:13]) == pytest.approx(relative[:13])  # one network, not a mean
    both = evaluator.judge(numbered(113, 3), of[13:])
    assert both == pytest.approx(evaluator.judge(numbered(113, 3)))


def test_one_fold_is_the_papers_rule(spies: list[Spy]) -> None:
    """One network, its own training normals, their maximum."""
    evaluator, relative = train_evaluator(
        numbered(0, 9), numbered(3, 20), settings=QUICK, folds=1, quantile=1.0, seed=0, fold_seed=0
    )
    assert len(spies) == 1 and spies[0].trained == set(range(23))
    assert (relative < 1).tolist() == [i < 8 for i in range(3, 23)]
    np.testing.assert_allclose(evaluator.normal_distances[0], np.arange(1, 10))


def test_fresh_images_get_the_geometric_mean(spies: list[Spy]) -> None:
    """By hand: networks with thresholds 2 and 8 put the distance 8 at 4 and 1, together 2."""
    networks = (Spy(numbered(0, 1), None), Spy(numbered(0, 1), None))
    evaluator = ConfusionEvaluator(
        networks=networks, normal_distances=(np.array([1.0, 2.0]), np.array([8.0])), quantile=1.0
    )
    assert evaluator.judge(numbered(7, 1)).tolist() == pytest.approx([2.0])
    assert evaluator.judge(numbered(0, 0)).shape == (0,)


def test_embeddings_are_in_units_of_the_relative_distance() -> None:
    """Networks of other scales would else not count alike: each part's squared length is its relative distance."""
    rng = np.random.default_rng(0)
    normals, fresh = (rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8) for n in (8, 5))
    evaluator, _ = train_evaluator(normals, fresh, settings=QUICK, quantile=0.5, seed=0, fold_seed=0)
    z = evaluator.embed(fresh)
    lengths = np.square(z).reshape(5, 2, 128).sum(axis=2)
    np.testing.assert_allclose(np.sqrt(lengths.prod(axis=1)), evaluator.judge(fresh), rtol=1e-3)
    assert evaluator.embed(fresh[:0]).shape == (0, 256)


@pytest.mark.parametrize(("folds", "normals"), [(9, 8), (0, 8)])
def test_more_folds_than_normals(folds: int, normals: int) -> None:
    """An empty fold has no quantile: refused in words."""
    with pytest.raises(UserError, match=rf"folds: expected 1 to {normals} .*; got {folds}"):
        train_evaluator(
            numbered(0, normals), numbered(9, 3), settings=QUICK, folds=folds, quantile=0.9, seed=0, fold_seed=0
        )


def test_for_real(tmp_path: Path) -> None:
    """With real networks and fewer anomalies than folds: finite, repeatable, and the same after save and load."""
    rng = np.random.default_rng(0)
    normals, anomalies = (rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8) for n in (8, 1))
    told: list[tuple[int, int]] = []
    made = [
        train_evaluator(
            normals, anomalies, settings=QUICK, folds=2, quantile=0.5, seed=3, fold_seed=4,
            progress=lambda done, total: told.append((done, total)),
        )
        for _ in range(2)
    ]  # fmt: skip
    (evaluator, relative), (_, again) = made
    assert np.isfinite(relative).all() and (relative == again).all()
    assert told[1] == (2, 2)
    evaluator.save(tmp_path)
    loaded = ConfusionEvaluator.load(tmp_path, quantile=0.5, device="cpu")
    fresh = rng.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    assert (loaded.judge(fresh) == evaluator.judge(fresh)).all()
    assert loaded.normal_fold is not None and (loaded.normal_fold == evaluator.normal_fold).all()
    assert sorted(p.suffix for p in tmp_path.rglob("*") if p.is_file()) == [*[".npy"] * 3, *[".safetensors"] * 2]
