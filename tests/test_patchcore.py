"""PatchCore: its coreset and score against a literal reference, its distances against scikit-learn, its bank."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from kka.detectors.features import Features
from kka.detectors.patchcore.coreset import greedy_coreset, projected
from kka.detectors.patchcore.detector import PatchCore
from kka.detectors.patchcore.network import Bank
from kka.detectors.patchcore.settings import PatchCoreSettings
from kka.detectors.patchcore.training import fill_bank, standardisation
from kka.errors import UserError
from kka.protocols import Images
from kka.settings.backbone import BackboneSettings
from reference import patchcore as literal

BACKBONE = BackboneSettings(name="mobilenetv2_035", weights="random")
QUICK = dataclasses.replace(PatchCore.PRESETS["cpu"], size=64, crop=64, dimension=32, device="cpu")
CPU = torch.device("cpu")


class InMemory(Features):
    """Stands in for features on disk."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.shape = values, tuple(values.shape)

    def __getitem__(self, index: Tensor) -> Tensor:  # type: ignore[override]
        return self.values[index]


def pictures(n: int, seed: int = 0, size: int = 32) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(**changes: object) -> PatchCoreSettings:
    base = PatchCoreSettings(strides=(8, 16), dimension=6, share=1, neighbours=0, device="cpu")
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def bank_of(normals: Tensor, near: int = 0, anomalies: Tensor | None = None, **changes: object) -> Bank:
    """As `fill_bank` makes it, of these very patches."""
    bank = Bank(normals.shape[1], len(normals), near, 0, small(neighbours=near, **changes))
    bank.normals.copy_(normals)
    if near:
        bank.near.copy_(torch.cdist(normals, normals).topk(near, largest=False).indices)
    if anomalies is not None:
        bank.anomalies = anomalies
    return bank


def test_published_settings() -> None:
    """The defaults are the card: a changed one would be compared with other people's figures."""
    s = PatchCoreSettings()
    assert PatchCore.PRESETS["published"] == s
    assert (s.size, s.crop, s.strides, s.dimension, s.share, s.projection) == (256, 224, (8, 16), 1024, 0.1, 128)
    assert s.neighbours == 9 and s.score_top == 0 and not s.standardise


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 30), d=st.integers(1, 5), seed=st.integers(0, 99), data=st.data())
def test_the_coreset_equals_the_literal_one(n: int, d: int, seed: int, data: st.DataObject) -> None:
    """A minimum for a maximum would take the densest points, and rare normals would be called anomalous."""
    m, first = data.draw(st.integers(1, n)), data.draw(st.integers(0, n - 1))
    points = drawn(n, d, seed=seed).double()
    found = greedy_coreset(points, m, first=first).tolist()
    assert found == literal.coreset(points.tolist(), m, first)


def test_a_coreset_of_equal_points() -> None:
    """Black pictures have one patch a thousand times: each position is taken once, and nothing is NaN."""
    assert sorted(greedy_coreset(torch.ones(7, 3), 7, first=4).tolist()) == list(range(7))


def test_a_projection_keeps_distances() -> None:
    """The bank is chosen by projected patches: these must be about as far apart; few dimensions stay as they are."""
    x = drawn(40, 200)
    ratio = torch.pdist(projected(x, 100, 3)) / torch.pdist(x)
    assert projected(x, 100, 3).shape == (40, 100) and float(ratio.min()) > 0.6 and float(ratio.max()) < 1.4
    assert (projected(x, 100, 3) == projected(x, 100, 3)).all()
    assert projected(x, 200, 3) is x


def test_distances_are_those_of_scikit_learn() -> None:
    """Squares by matrix products lose digits where patches are alike: not so many that it is seen."""
    normals, patches = drawn(300, 16) + 3, drawn(2, 50, 16, seed=1) + 3
    known = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(normals.numpy())
    expected, places = known.kneighbors(patches.flatten(0, 1).numpy())
    distance, nearest = bank_of(normals).distances(patches)
    np.testing.assert_allclose(distance.flatten().numpy(), expected[:, 0], rtol=1e-4)
    assert nearest.flatten().tolist() == places[:, 0].tolist()
    assert bank_of(normals).distances(normals[None])[0].max() < 0.01


@settings(max_examples=30, deadline=None)
@given(
    share=st.floats(0, 1), near=st.sampled_from([0, 2, 5]), odd=st.integers(0, 3), weight=st.floats(0, 3),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_scores_equal_the_literal_ones(share: float, near: int, odd: int, weight: float, seed: int) -> None:
    """The weight of Eq. 7, the mean over the top patches and what anomalies add, for any mixture of them."""
    normals, patches, anomalies = (drawn(n, 6, seed=seed + i).double() for i, n in enumerate((8, 5, odd)))
    bank = bank_of(normals, near, anomalies, score_top=share, anomaly_weight=weight).double()
    expected = literal.image_score(patches.tolist(), normals.tolist(), share, near, anomalies.tolist(), weight)
    assert float(bank.score(patches[None])) == pytest.approx(expected, rel=1e-9)


def test_far_patches_do_not_overflow() -> None:
    """exp of a distance of thousands is infinite: the weight is then 1 minus a share of nothing, and no NaN."""
    score = bank_of(drawn(6, 6), 3).score(1e4 * drawn(2, 4, 6, seed=1))
    assert score.isfinite().all() and (score > 0).all()


def test_standardised_parts_count_alike() -> None:
    """A stride whose numbers are a hundred times larger would decide alone which patch is nearest."""
    values = drawn(9, 5, 6) * torch.tensor([1.0, 1, 1, 100, 100, 100]) + 7
    mean, scale = standardisation(InMemory(values), 2)
    x = ((values - mean) * scale).flatten(0, 1)
    torch.testing.assert_close(x.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.var(0, correction=0).view(2, 3).sum(1), torch.ones(2), atol=1e-4, rtol=0)


def test_the_bank_is_as_large_as_it_is_told() -> None:
    """By share, by `most`, and by what there is; with few candidates each normal still gives as many as the next."""
    normals = InMemory(drawn(12, 9, 6))

    def size(**changes: object) -> int:
        return len(fill_bank(normals, None, settings=small(**changes), seed=0, device=CPU).normals)

    assert (size(share=0.5), size(most=20), size(), size(share=1e-6)) == (54, 20, 108, 1)
    assert (size(candidates=24), size(candidates=5)) == (24, 5)
    whole = fill_bank(normals, None, settings=small(), seed=0, device=CPU)
    assert torch.equal(*(x.sort(dim=0).values for x in (whole.normals, normals.values.flatten(0, 1))))


def test_normal_parts_of_anomalies_are_not_remembered() -> None:
    """An anomaly is labelled as a whole: were its normal patches remembered, nearness to them would say nothing."""
    values = drawn(6, 9, 6, seed=1)
    values[:, :2] += 20
    bank = fill_bank(InMemory(drawn(30, 9, 6)), InMemory(values), settings=small(), seed=0, device=CPU)
    assert len(bank.anomalies) >= 12 and (bank.anomalies.mean(dim=1) > 10).sum() == 12
    alike = fill_bank(InMemory(drawn(30, 9, 6)), InMemory(drawn(30, 9, 6)[:3]), settings=small(), seed=0, device=CPU)
    assert not len(alike.anomalies)
    assert alike.score(drawn(2, 9, 6, seed=2)).isfinite().all()


def test_what_is_near_an_anomaly_scores_higher() -> None:
    """Of two patches equally far from the normals, the one beside a known anomaly; and no normal one is raised."""
    normals = torch.zeros(1, 6)
    one, other = torch.eye(6)[0] * 3, torch.eye(6)[1] * 3
    bank = bank_of(normals, anomalies=one[None] * 1.1)
    near, far, normal = bank.answers(torch.stack([one, other, normals[0]])[None])[0].tolist()
    assert 3 < far < near <= 6 and normal == 0


def test_maps_point_at_the_change() -> None:
    """The brightest place of the map is where the picture was changed."""
    rng = np.random.default_rng(0)
    base = rng.integers(90, 110, (1, 96, 96, 3))
    normals = (base + rng.integers(-4, 5, (10, 96, 96, 3))).astype(np.uint8)
    wide = dataclasses.replace(QUICK, size=96, crop=96, strides=(8, 16))
    detector = PatchCore(settings=wide, backbone=BACKBONE, seed=0).fit(normals)
    odd = normals[:2].copy()
    odd[:, 64:88, 8:32] = (250, 20, 20)
    for found in detector.score_map(odd):
        row, column = np.unravel_index(found.argmax(), found.shape)
        assert 52 <= row <= 95 and 0 <= column <= 44
    assert (detector.score(odd) > detector.score(normals).max()).all()


def test_without_standardisation_and_with_neighbours(tmp_path: Path) -> None:
    """The published way, reweighting in the saved graph included."""
    published = dataclasses.replace(QUICK, standardise=False, neighbours=3, score_top=0, share=0.2, crop=48)
    detector = PatchCore(settings=published, backbone=BACKBONE).fit(pictures(8), pictures(3, seed=1))
    detector.save(tmp_path)
    again = PatchCore.load(tmp_path)
    assert (again.score(pictures(4, seed=2)) == detector.score(pictures(4, seed=2))).all()
    assert again.graph_.bank.counts == detector.graph_.bank.counts == (14, 3, detector.graph_.bank.counts[2])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"crop": 300}, "crop: expected at most size, 256; got 300"),
        ({"strides": (16, 8)}, "strides: expected ascending"),
        ({"dimension": 7}, "dimension: expected a multiple"),
        ({"share": 0}, "share"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, object], told: str) -> None:
    """In words, before any feature is computed."""
    with pytest.raises(UserError, match=told):
        small(**({"crop": 224, "size": 256} | changes))


def test_only_what_a_mask_covers_is_remembered() -> None:
    """Patches of the normal photo around a defect would raise the scores of normals."""
    normals, odd = drawn(6, 4, 6), drawn(3, 4, 6, seed=1) + 20
    cover = torch.tensor([[1.0, 0, 0, 0], [0, 0.05, 0.5, 0], [0, 0, 0, 0]])
    chosen = small(mask_from=0.1)
    masked = fill_bank(InMemory(normals), InMemory(odd), settings=chosen, seed=0, device=CPU, cover=cover)
    expected = torch.stack([odd[0, 0], odd[1, 2]])
    assert sorted(masked.anomalies.tolist()) == sorted(expected.tolist())
    assert len(fill_bank(InMemory(normals), InMemory(odd), settings=chosen, seed=0, device=CPU).anomalies) == 12
    none = fill_bank(InMemory(normals), InMemory(odd), settings=chosen, seed=0, device=CPU, cover=0 * cover)
    assert not len(none.anomalies)
