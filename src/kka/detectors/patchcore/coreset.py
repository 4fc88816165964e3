"""Which patches a memory bank keeps: a greedy cover of all (PatchCore, Roth et al. 2022, Algorithm 1).

Each step takes the point that is farthest from those taken already, so that no part of the normals goes unseen, however
rare; as a solution of the k-center problem it is at most twice as wide as the best one (Gonzalez 1985).
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def greedy_coreset(points: Float[Tensor, "n d"], m: int, *, first: int) -> Int64[Tensor, "m"]:
    """Positions of `m` of the points, in the order in which they were taken, `first` first; the lowest of equal ones.

    Memory: a few numbers a point.
    """
    squares = points.square().sum(dim=1)
    nearest = torch.full_like(squares, torch.inf)
    new = torch.tensor([first]).to(points.device)
    taken = [new]  # on the device, which is not waited for at each of thousands of steps
    for _ in range(m - 1):
        distance = squares - 2 * (points @ points.index_select(0, new)[0]) + squares.index_select(0, new)
        nearest = torch.minimum(nearest, distance).index_fill_(0, new, -torch.inf)  # rounding must not take one twice
        new = nearest.argmax(dim=0, keepdim=True)
        taken.append(new)
    return torch.cat(taken).cpu()


def projected(points: Float[Tensor, "n d"], dimensions: int, seed: int) -> Float[Tensor, "n e"]:
    """The points in fewer dimensions, by a random Gaussian matrix that nearly keeps distances; or as they are."""
    from sklearn.random_projection import GaussianRandomProjection

    if points.shape[1] <= dimensions:
        return points
    found = GaussianRandomProjection(dimensions, random_state=seed % 2**32).fit_transform(points.cpu().numpy())
    return torch.from_numpy(found).to(points)
