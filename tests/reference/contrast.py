"""Contrastive losses and CMDA's mixing by loops over plain numbers."""

import math

Vector = list[float]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def sup_con(vectors: list[Vector], positives: list[set[int]], negatives: list[Vector], temperature: float) -> float:
    """Mean over anchors of minus the mean log-share of their positives among all others."""
    total = 0.0
    for i, z in enumerate(vectors):
        others = [other for a, other in enumerate(vectors) if a != i] + negatives
        denominator = sum(math.exp(dot(z, other) / temperature) for other in others)
        logs = [math.log(math.exp(dot(z, vectors[p]) / temperature) / denominator) for p in positives[i]]
        total -= sum(logs) / len(logs)
    return total / len(vectors)


def nt_xent(first: list[Vector], second: list[Vector], negatives: list[Vector], temperature: float) -> float:
    """SimCLR's Eq. 1: l(i, j) over both orders of every pair."""
    n, views = len(first), [*first, *second]
    total = 0.0
    for i in range(2 * n):
        j = i + n if i < n else i - n
        denominator = 0.0
        for k in range(2 * n):
            if k != i:
                denominator += math.exp(dot(views[i], views[k]) / temperature)
        for negative in negatives:
            denominator += math.exp(dot(views[i], negative) / temperature)
        total += -math.log(math.exp(dot(views[i], views[j]) / temperature) / denominator)
    return total / (2 * n)


def affinity(texts: list[Vector], images: list[Vector]) -> list[Vector]:
    """|t_i . v_j|, each row divided by its sum."""
    rows = []
    for text in texts:
        row = [abs(dot(text, image)) for image in images]
        rows.append([value / sum(row) for value in row])
    return rows


def generated(weights: list[Vector], views: list[Vector]) -> list[Vector]:
    """Row i: sum over j of w_ij view_j."""
    result = []
    for row in weights:
        mixed = [0.0] * len(views[0])
        for weight, view in zip(row, views, strict=True):
            for c, value in enumerate(view):
                mixed[c] += weight * value
        result.append(mixed)
    return result
