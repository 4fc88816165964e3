"""ReContrast's losses against plain loops, and what must hold for any input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kka.detectors.recontrast.loss import (
    alpha_at,
    cross_reconstruction,
    discrepancy,
    gradient_at,
    hard_positions,
    image_distance,
    margin_loss,
    masked_discrepancy,
    point_distance,
)
from reference import recontrast as literal


def maps(seed: int, sides: tuple[int, ...] = (4, 2, 1), n: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 5, side, side, generator=generator) for side in sides]


def arrays(tensors: list[torch.Tensor]) -> list[np.ndarray]:
    return [t.detach().numpy() for t in tensors]


def test_distances_are_the_literal_ones() -> None:
    """Flattening per position and flattening per image are easily mixed up."""
    for a, b in zip(maps(0), maps(1), strict=True):
        np.testing.assert_allclose(point_distance(a, b), literal.point_distances(a.numpy(), b.numpy()), atol=1e-5)
        np.testing.assert_allclose(image_distance(a, b), literal.image_distances(a.numpy(), b.numpy()), atol=1e-5)


@pytest.mark.parametrize("alpha", [-3.0, -0.5, 0.3, 1.0])
def test_hard_positions_are_the_literal_ones(alpha: float) -> None:
    """The threshold is over the whole batch, with the sample deviation."""
    distance = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(2))
    assert (hard_positions(distance, alpha).numpy() == literal.hard(distance.numpy(), alpha)).all()


def test_the_loss_is_the_literal_one_whatever_alpha() -> None:
    """Masking gradients must leave the value alone; each direction weighs a half."""
    targets, decoded = maps(3) + maps(4), maps(5) + maps(6)
    for alpha in (-3.0, 1.0):
        found = cross_reconstruction(targets, decoded, alpha)
        assert float(found) == pytest.approx(literal.loss(arrays(targets), arrays(decoded)), abs=1e-5)


def test_easy_positions_and_targets_get_no_gradient() -> None:
    """That is what hard mining and stop-gradient are."""
    target, decoded = maps(7, (4,))[0].requires_grad_(), maps(8, (4,))[0].requires_grad_()
    distances = literal.point_distances(*arrays([target, decoded]))
    keep = torch.from_numpy(literal.hard(distances, 0.5))
    cross_reconstruction([target], [decoded], 0.5).backward()
    assert target.grad is None and decoded.grad is not None
    moved = decoded.grad.abs().sum(dim=1) > 0
    assert (moved == keep).all() and keep.any() and not keep.all()
    x = torch.ones(1, 2, 1, 2, requires_grad=True)
    gradient_at(x, torch.tensor([[[True, False]]])).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[[[1.0, 0.0]], [[1.0, 0.0]]]]


@pytest.mark.parametrize("steps", [3, 20, 200])
def test_alpha_is_ramped_up(steps: int) -> None:
    """All positions count at first; from a tenth of the way on only those one deviation above the mean."""
    assert [alpha_at(k, steps) for k in range(steps)] == pytest.approx([literal.alpha(k, steps) for k in range(steps)])
    assert alpha_at(0, steps) == -3 and alpha_at(steps, steps) == 1


@pytest.mark.parametrize("top", [1.0, 0.5, 0.1])
def test_discrepancy_and_margin_are_the_literal_ones(top: float) -> None:
    """Mean over the pairs, of the whole map or of its most distant positions; one position at least."""
    targets, decoded = maps(9), maps(10)
    found = discrepancy(targets, decoded, top=top)
    expected = literal.discrepancy(arrays(targets), arrays(decoded), top)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert float(margin_loss(found, 1.2)) == pytest.approx(literal.margin(expected, 1.2), abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3), margin=st.floats(0, 2))
def test_bounds_and_scale(seed: int, scale: float, margin: float) -> None:
    """Distances lie in 0 to 2, are 0 for equal maps, and ignore the scale of either side."""
    a, b = maps(seed), maps(seed + 1)
    found = discrepancy(a, b)
    assert ((found >= -1e-5) & (found <= 2 + 1e-5)).all()
    torch.testing.assert_close(discrepancy(a, [scale * x for x in b]), found, atol=1e-4, rtol=1e-3)
    assert discrepancy(a, a).abs().max() < 1e-5
    assert 0 <= float(margin_loss(found, margin)) <= margin + 1e-5


@pytest.mark.parametrize("least", [0.0, 0.1, 0.6, 1.0])
def test_the_masked_discrepancy_is_the_literal_one(least: float) -> None:
    """The margin must stand on the defect, not on the normal photo around it; a mask that covers little counts where
    it covers most."""
    targets, decoded = maps(9), maps(10)
    generator = torch.Generator().manual_seed(3)
    covers = [torch.rand(3, m.shape[2], m.shape[3], generator=generator) * torch.tensor([1, 0.3, 0.05]).view(3, 1, 1)
              for m in targets]  # fmt: skip
    found = masked_discrepancy(targets, decoded, covers, least)
    expected = literal.masked_discrepancy(arrays(targets), arrays(decoded), arrays(covers), least)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
