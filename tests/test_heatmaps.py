"""Anomaly maps: bilinear, then a Gaussian."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from kka.detectors.heatmaps import gaussian_kernel, smooth_maps
from reference.patch_features import bilinear


@pytest.mark.parametrize("size", [(24, 24), (17, 30), (3, 5)])
def test_equal_the_literal_way(size: tuple[int, int]) -> None:
    """Another kernel width or border than SciPy's would shift every figure of localisation."""
    maps = np.random.default_rng(0).normal(size=(2, 4, 6))
    expected = [gaussian_filter(m, 2.0, mode="nearest") for m in bilinear(maps, *size)]
    found = smooth_maps(torch.from_numpy(maps).float(), size, sigma=2.0).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    h=st.integers(1, 40), w=st.integers(1, 40), value=st.floats(-5, 5, width=32), sigma=st.sampled_from([0.0, 1.0, 4.0])
)  # fmt: skip
def test_a_constant_stays_constant(h: int, w: int, value: float, sigma: float) -> None:
    """Zero padding would darken the border; any size must do, smaller than the kernel too."""
    found = smooth_maps(torch.full((1, 3, 3), value), (h, w), sigma=sigma)
    torch.testing.assert_close(found, torch.full((1, h, w), value), atol=1e-4, rtol=1e-4)


def test_a_peak_stays_where_it_is() -> None:
    """A transposed or shifted map would point at the wrong place."""
    maps = torch.zeros(1, 8, 8)
    maps[0, 2, 5] = 1
    y, x = divmod(int(smooth_maps(maps, (64, 64))[0].argmax()), 64)
    assert abs(y - 19.5) <= 0.5 and abs(x - 43.5) <= 0.5


def test_maps_do_not_mix() -> None:
    """The batch is no channel: a map alone equals the same map among others."""
    maps = torch.rand(3, 5, 5)
    torch.testing.assert_close(smooth_maps(maps, (20, 20))[1:2], smooth_maps(maps[1:2], (20, 20)))


def test_the_kernel() -> None:
    """Symmetric, of sum one, out to four sigmas."""
    kernel = gaussian_kernel(4.0)
    assert len(kernel) == 33
    torch.testing.assert_close(kernel, kernel.flip(0))
    torch.testing.assert_close(kernel.sum(), torch.tensor(1.0))
