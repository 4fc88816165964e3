"""SimpleNet's hinge losses and its score by loops over plain numbers. D(q): high = normal."""


def normal_hinge(answers: list[float], margin: float) -> float:
    return sum(max(0.0, margin - a) for a in answers) / len(answers)


def anomaly_hinge(answers: list[float], margin: float) -> float:
    return sum(max(0.0, margin + a) for a in answers) / len(answers)


def most_anomalous(answers: list[float], share: float) -> list[float]:
    """The lowest answers of one image: a share of them, rounded (half to even), and at least one."""
    return sorted(answers)[: max(1, min(len(answers), round(share * len(answers))))]


def top_hinge(images: list[list[float]], margin: float, share: float) -> float:
    """Over the most anomalous patches of each image."""
    return anomaly_hinge([a for answers in images for a in most_anomalous(answers, share)], margin)


def image_score(answers: list[float], share: float) -> float:
    top = most_anomalous(answers, share)
    return -sum(top) / len(top)


def masked_hinge(images: list[list[float]], covers: list[list[float]], margin: float, least: float) -> float:
    """Over the patches that are covered enough, and covered at all."""
    odd = []
    for answers, cover in zip(images, covers, strict=True):
        for answer, share in zip(answers, cover, strict=True):
            if share > 0 and share >= least:
                odd.append(answer)
    return anomaly_hinge(odd, margin) if odd else 0.0
