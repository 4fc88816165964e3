"""The contrastive losses, and CMDA's mixing of images by captions."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kka.detectors.contrastive.loss import affinity, generated, nt_xent, sup_con
from reference import contrast as reference


def vectors(n: int, seed: int, d: int = 5) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


@pytest.mark.parametrize("k", [0, 4])
def test_sup_con_is_the_formula(k: int) -> None:
    """Positives of several sizes, the anchor itself left out, negatives in the denominator alone."""
    z, negatives = vectors(6, 0), vectors(k, 1)
    labels = torch.tensor([0, 1, 0, 1, 0, 1]) if k else torch.tensor([0, 0, 0, 0, 1, 1])
    positives = (labels[:, None] == labels) & ~torch.eye(6, dtype=torch.bool)
    sets = [{j for j in range(6) if positives[i, j]} for i in range(6)]
    expected = reference.sup_con(z.tolist(), sets, negatives.tolist(), 0.3)
    assert float(sup_con(z, positives, negatives, temperature=0.3)) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 6), k=st.integers(0, 5), seed=st.integers(0, 1000), temperature=st.sampled_from([0.1, 0.5, 2.0])
)
def test_nt_xent_is_the_formula(n: int, k: int, seed: int, temperature: float) -> None:
    """A wrong partner, or an anchor against itself, would still train something."""
    first, second, negatives = vectors(n, seed), vectors(n, seed + 1), vectors(k, seed + 2)
    expected = reference.nt_xent(first.tolist(), second.tolist(), negatives.tolist(), temperature)
    value = nt_xent(first, second, negatives if k else None, temperature=temperature)
    assert float(value) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_nt_xent_by_hand() -> None:
    """Two images at right angles with equal views: each anchor has e^(1/tau) against e^(1/tau) + 2."""
    z = torch.eye(2)
    e = math.exp(2)
    assert float(nt_xent(z, z, temperature=0.5)) == pytest.approx(-math.log(e / (e + 2)), rel=1e-6)


def test_a_single_image() -> None:
    """One normal has no other to be told from: a loss of 0 and no NaN in the gradient; with a negative, a push."""
    z = vectors(1, 0).requires_grad_()
    value = nt_xent(z, z, temperature=0.5)
    value.backward()
    assert value.item() == 0 and z.grad is not None and (z.grad == 0).all()
    pushed = nt_xent(z, z, vectors(1, 1), temperature=0.5)
    pushed.backward()
    assert pushed.item() > 0 and torch.isfinite(z.grad).all() and (z.grad != 0).any()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_nt_xent_properties(seed: int) -> None:
    """Symmetric in the views, independent of the order of the images; negatives only ever add to it."""
    first, second, negatives = vectors(5, seed), vectors(5, seed + 1), vectors(3, seed + 2)
    value = float(nt_xent(first, second, temperature=0.5))
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    assert float(nt_xent(second, first, temperature=0.5)) == pytest.approx(value)
    assert float(nt_xent(first[order], second[order], temperature=0.5)) == pytest.approx(value)
    assert float(nt_xent(first, second, negatives, temperature=0.5)) > value


def test_negatives_repel() -> None:
    """A step down the gradient moves the normals away from the anomalies."""
    z, negatives = vectors(1, 0).requires_grad_(), vectors(1, 3)
    (gradient,) = torch.autograd.grad(nt_xent(z, z.detach(), negatives, temperature=0.5), z)
    before = (z * negatives).sum()
    assert ((z - 0.1 * gradient) * negatives).sum() < before


def test_affinity_is_the_formula_and_its_rows_sum_to_1() -> None:
    """The published code divides W by its column of sums laid across the rows: its rows sum to anything."""
    texts, images = vectors(6, 0), vectors(6, 1)
    weights = affinity(texts, images)
    assert torch.allclose(weights, torch.tensor(reference.affinity(texts.tolist(), images.tolist())).double())
    assert torch.allclose(weights.sum(dim=1), torch.ones(6, dtype=torch.float64)) and (weights >= 0).all()
    wrong = (texts @ images.T).abs()
    assert not torch.allclose((wrong / wrong.sum(dim=1)).sum(dim=1), torch.ones(6, dtype=torch.float64))


def test_affinity_of_an_orthogonal_caption() -> None:
    """A caption at right angles to every image would divide 0 by 0."""
    weights = affinity(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    assert torch.isfinite(weights).all()


def test_generated_is_the_formula() -> None:
    """Mixing over captions instead of over images would transpose W."""
    weights, views = affinity(vectors(4, 0), vectors(4, 1)), vectors(4, 2)
    expected = torch.tensor(reference.generated(weights.tolist(), views.tolist())).double()
    assert torch.allclose(generated(weights, views), expected)
    one_hot = torch.eye(4, dtype=torch.float64)[[2, 0, 3, 1]]
    assert (generated(one_hot, views) == views[[2, 0, 3, 1]]).all()
