"""PatchCore's coreset and score by loops over plain numbers."""

import math


def distance(x: list[float], y: list[float]) -> float:
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def coreset(points: list[list[float]], m: int, first: int) -> list[int]:
    """Algorithm 1: again and again the point whose nearest taken one is farthest; the lowest of equal ones."""
    taken = [first]
    while len(taken) < m:
        left = [i for i in range(len(points)) if i not in taken]
        taken.append(max(left, key=lambda i: (min(distance(points[i], points[t]) for t in taken), -i)))
    return taken


def weight(patch: list[float], bank: list[list[float]], neighbours: int) -> float:
    """w of Eq. 7; the neighbourhood of m* begins with m* itself."""
    nearest = min(bank, key=lambda m: distance(patch, m))
    around = sorted(bank, key=lambda m: distance(nearest, m))[:neighbours]
    return 1 - math.exp(distance(patch, nearest)) / sum(math.exp(distance(patch, m)) for m in around)


def raised(patch: list[float], bank: list[list[float]], anomalies: list[list[float]], weight: float) -> float:
    """The distance to the bank, raised near anomalies."""
    normal = min(distance(patch, m) for m in bank)
    if not anomalies:
        return normal
    other = min(distance(patch, a) for a in anomalies)
    return normal * (1 + weight * normal / (normal + other))


def image_score(
    patches: list[list[float]], bank: list[list[float]], share: float, neighbours: int,
    anomalies: list[list[float]], anomaly_weight: float,
) -> float:  # fmt: skip
    """The mean over a share of the patches, the farthest: rounded (half to even), and at least one."""
    found = sorted(((raised(x, bank, anomalies, anomaly_weight), x) for x in patches), reverse=True)
    top = found[: max(1, min(len(patches), round(share * len(patches))))]
    return sum(d * (weight(x, bank, neighbours) if neighbours > 1 else 1) for d, x in top) / len(top)
