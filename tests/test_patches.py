"""Patch features against the literal way: unfold, pool, resize, stack, pool."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kka.detectors.patches import PatchFeatures, pooling_matrix
from kka.errors import UserError
from reference.patch_features import patch_features


@pytest.mark.parametrize(
    ("channels", "dimension"),
    [((4, 8), 12), ((6, 4), 4), ((5, 3), 14), ((2, 3, 4), 9), ((3,), 7), ((1, 2), 40)],
)
def test_equal_the_literal_way(channels: tuple[int, ...], dimension: int) -> None:
    """A wrong order of channel, row and column, or a wrong bin, would mix features and still train."""
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(c, max(1, 6 >> i), max(1, 4 >> i))) for i, c in enumerate(channels)]
    batch = [torch.from_numpy(m).float()[None] for m in maps]
    found = PatchFeatures(channels, dimension)(batch)[0].numpy()
    np.testing.assert_allclose(found, patch_features(maps, dimension), atol=1e-5)


def test_grids_that_do_not_divide() -> None:
    """A crop of 36 gives grids of 5 and 3: the resize must follow the grid, not a factor of two."""
    rng = np.random.default_rng(1)
    maps = [rng.normal(size=(2, 5, 5)), rng.normal(size=(4, 3, 3))]
    found = PatchFeatures((2, 4), 6)([torch.from_numpy(m).float()[None] for m in maps])[0].numpy()
    np.testing.assert_allclose(found, patch_features(maps, 6), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), bins=st.integers(1, 40))
def test_the_pooling_matrix_is_adaptive_pooling(n: int, bins: int) -> None:
    """Torch's own pooling, for any two lengths, the longer output too."""
    x = torch.arange(n, dtype=torch.float64).square()
    torch.testing.assert_close(pooling_matrix(n, bins) @ x, F.adaptive_avg_pool1d(x[None], bins)[0])


def test_a_constant_stays_itself_away_from_the_border() -> None:
    """Every kernel is a mean: its weights add up to one."""
    maps = [torch.full((1, 4, 6, 6), 3.0), torch.full((1, 8, 6, 6), 3.0)]
    inner = PatchFeatures((4, 8), 8)(maps)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 3.0))


def test_the_published_size_is_small() -> None:
    """Groups of channels that are pooled alike: the kernels of WideResNet50-2 take 0.2 MB, not 400."""
    module = PatchFeatures((512, 1024), 1536)
    assert sum(b.numel() for b in module.buffers()) < 50_000
    assert not module.state_dict()


def test_a_dimension_that_does_not_divide_is_refused() -> None:
    """An odd number of features over two strides: one would hold both layers."""
    with pytest.raises(UserError, match="multiple of the number of strides, 2; got 7"):
        PatchFeatures((4, 8), 7)
