"""DFM: its error against scikit-learn's PCA, its directions, its poolings and its maps."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kka.detectors.dfm.detector import DFM
from kka.detectors.dfm.network import Subspace
from kka.detectors.dfm.settings import DFMSettings
from kka.detectors.dfm.training import fit_subspaces, principal
from kka.detectors.features import Features
from kka.errors import UserError
from kka.protocols import Images
from kka.settings.backbone import BackboneSettings
from reference import dfm as literal

BACKBONE = BackboneSettings(name="mobilenetv2_035", weights="random")
QUICK = dataclasses.replace(DFM.PRESETS["cpu"], size=64, crop=64, device="cpu")


class InMemory(Features):
    """Stands in for features on disk."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.shape = values, tuple(values.shape)

    def __getitem__(self, index: Tensor) -> Tensor:  # type: ignore[override]
        return self.values[index]


def pictures(n: int, seed: int = 0, size: int = 32) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("odd", [0, 5])
def test_errors_equal_the_literal_ones(odd: int) -> None:
    """Two poolings, of 12 and 7 numbers: mean, share of the variance, scale, and what anomalies add."""
    mixed = drawn(19, 19, seed=9)
    normals, photos, anomalies = (drawn(n, 19, seed=i) @ mixed for i, n in enumerate((10, 4, odd)))
    settings = DFMSettings(variance=0.8, anomaly_directions=2, anomaly_weight=3)
    found = fit_subspaces(
        InMemory(normals.float()), InMemory(anomalies.float()) if odd else None, [12, 7], settings=settings
    )
    start = 0
    for subspace in found:
        part = slice(start, start := start + len(subspace.mean))
        expected = [
            literal.reconstruction_error(x, normals.numpy()[:, part], 0.8, anomalies.numpy()[:, part], 2, 3)
            for x in photos.numpy()[:, part]
        ]
        errors = subspace.errors(photos[:, part].float()).sum(dim=1)
        np.testing.assert_allclose(errors.numpy(), expected, rtol=1e-3)
    assert [len(s.odd) for s in found] == [2 if odd else 0] * 2


def test_directions_hold_the_share_that_is_wanted() -> None:
    """One more or less would keep what normals differ in, or call it anomalous."""
    x = torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.0]))  # squares 9, 4, 1
    for share, number in ((0.5, 1), (0.8, 2), (0.95, 3), (1.0, 3)):
        rows = principal(x, share=share)
        assert len(rows) == number
        np.testing.assert_allclose((rows @ rows.T).numpy(), np.eye(number), atol=1e-5)
        np.testing.assert_allclose(rows.abs().numpy(), np.eye(4)[:number], atol=1e-5)
    assert len(principal(x, share=1.0, most=2)) == 2
    assert principal(torch.zeros(5, 3), share=0.9).shape == (0, 3)


def test_masks_say_which_places_teach() -> None:
    """Of an anomaly whose mask covers its upper half, nothing of the lower half is a direction."""
    normals, odd = pictures(10), pictures(6, seed=1)
    masks = np.zeros((6, 32, 32), np.uint8)
    masks[:, :16] = 255
    detector = DFM(settings=QUICK, backbone=BACKBONE).fit(normals, odd, masks=masks)
    shape = detector.graph_.extract.shapes[0]  # the finest
    subspace = detector.graph_.subspaces[0]
    assert isinstance(subspace, Subspace)
    directions = subspace.odd.view(-1, *shape)
    assert float(directions[:, :, : shape[1] // 2].abs().max()) > 0.01
    assert float(directions[:, :, shape[1] // 2 :].abs().max()) == 0


def test_no_more_than_so_many_are_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory grows with the square of their number: a pool of 100,000 pictures must not fill it."""
    monkeypatch.setenv("KKA_CACHE", str(tmp_path))
    masks = np.full((40, 32, 32), 255, np.uint8)
    settings = dataclasses.replace(QUICK, most=5, variance=1.0, anomaly_directions=100)
    detector = DFM(settings=settings, backbone=BACKBONE).fit(pictures(30), pictures(40, seed=1), masks=masks)
    for subspace in detector.graph_.subspaces:
        assert len(subspace.basis) == 4  # five centred points
        assert len(subspace.odd) == 5
    computed = [np.load(file, mmap_mode="r").shape[0] for file in (tmp_path / "features").glob("*.npy")]
    assert computed == [5, 5]  # nor are features of the others computed


def test_a_map_shows_where() -> None:
    """Normals that are alike but for noise, and one with a white square: the map is highest there."""
    rng = np.random.default_rng(0)
    smooth = (np.linspace(60, 180, 64)[None, :, None, None] + rng.normal(0, 4, (24, 64, 64, 3))).clip(0, 255)
    normals = smooth.astype(np.uint8)
    odd = normals[:1].copy()
    odd[0, 40:60, 4:24] = 255
    detector = DFM(settings=QUICK, backbone=BACKBONE).fit(normals[4:])
    found = detector.score_map(odd)[0]
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert y >= 32 and x < 32
    assert detector.score(odd)[0] > detector.score(normals[:4]).max()


def test_settings() -> None:
    """Poolings ascend, each once; that of the maps is one of them where it is not one already."""
    assert DFM.PRESETS["cpu"].poolings == (1, 2, 8) and DFM.PRESETS["small"].poolings == (2, 8)
    with pytest.raises(UserError, match="pools: expected ascending"):
        DFMSettings(pools=(4, 2))
    with pytest.raises(UserError, match="crop: expected at most size"):
        DFMSettings(size=64, crop=128)


def test_a_pooling_wider_than_the_map(tmp_path: Path) -> None:
    """Pictures of 32 pixels have a map of 2 x 2: a pooling of 8 takes all of it, here and after loading."""
    settings = dataclasses.replace(QUICK, size=32, crop=32)
    detector = DFM(settings=settings, backbone=BACKBONE).fit(pictures(8))
    assert [shape[1:] for shape in detector.graph_.extract.shapes] == [(2, 2), (1, 1), (1, 1)]
    detector.save(tmp_path)
    assert (DFM.load(tmp_path).score(pictures(3, seed=2)) == detector.score(pictures(3, seed=2))).all()
