"""Contrastive losses over vectors of length 1, as pure functions; tau is `temperature` throughout."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def sup_con(
    vectors: Float[Tensor, "m d"],
    positives: Bool[Tensor, "m m"],
    negatives: Float[Tensor, "_k d"] | None = None,
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """SupCon, L_out of Khosla et al. 2020 (arXiv:2004.11362, Eq. 2), with further vectors that are negatives alone.

    mean over i of -1/|P(i)| sum over p in P(i) of log( exp(z_i z_p / tau) / sum over a != i of exp(z_i z_a / tau) )

    Paper -> code: z = `vectors`, P(i) = `positives[i]` (never i itself, never empty). a runs over the other
    `vectors` and all `negatives`, which repel and are not drawn to anything.
    """
    others = vectors if negatives is None else torch.cat([vectors, negatives])
    logits = vectors @ others.T / temperature  # (m, m + k)
    itself = torch.eye(len(vectors), len(others), dtype=torch.bool, device=vectors.device)
    log_p = logits.masked_fill(itself, -torch.inf).log_softmax(dim=1)[:, : len(vectors)]
    return -(log_p.masked_fill(~positives, 0).sum(dim=1) / positives.sum(dim=1)).mean()


def nt_xent(
    first: Float[Tensor, "n d"],
    second: Float[Tensor, "n d"],
    negatives: Float[Tensor, "_k d"] | None = None,
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """NT-Xent (Chen et al. 2020, arXiv:2002.05709, Eq. 1): SupCon in which row i of the other set is the one positive.

    A single pair without negatives has nothing to be told from: 0.
    """
    n = len(first)
    pairs = torch.eye(2 * n, dtype=torch.bool, device=first.device).roll(n, dims=1)
    return sup_con(torch.cat([first, second]), pairs, negatives, temperature=temperature)


def affinity(texts: Float[Tensor, "n d"], images: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """CMDA's W = |T I^T|, each row divided by its sum (the floor spares a caption orthogonal to every image)."""
    weights = (texts @ images.T).abs()
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)


def generated(weights: Float[Tensor, "n n"], views: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """CMDA's generated_i = sum over j of W_ij view_j: image vectors mixed by how a caption fits them.

    Not brought back to length 1: a mixture of unlike images is short, and weighs less in a loss.
    """
    return weights @ views
