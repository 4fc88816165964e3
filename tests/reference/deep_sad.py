"""Eq. 5 and its centre by loops over plain numbers."""


def loss(distances: list[float], is_anomaly: list[bool], eta: float) -> float:
    """Mean of d for normals and of eta (d + 1e-6)^-1 for anomalies."""
    total = 0.0
    for d, odd in zip(distances, is_anomaly, strict=True):
        total += eta * (d + 1e-6) ** -1 if odd else d
    return total / len(distances)


def centre(embeddings: list[list[float]]) -> list[float]:
    """The mean, its components of under 0.1 set to 0.1 or -0.1 by their sign."""
    result = []
    for j in range(len(embeddings[0])):
        c = sum(z[j] for z in embeddings) / len(embeddings)
        if abs(c) < 0.1:
            c = -0.1 if c < 0 else 0.1
        result.append(c)
    return result


def squared_distance(z: list[float], c: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(z, c, strict=True))
