"""SimpleNet's losses, as pure functions. D(q) is the discriminator's answer to a patch: high = normal."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def normal_hinge(answers: Float[Tensor, "*n"], margin: float) -> Float[Tensor, ""]:
    """mean max(0, margin - D(q)): a normal patch costs nothing from `margin` upwards."""
    return F.relu(margin - answers).mean()


def anomaly_hinge(answers: Float[Tensor, "*n"], margin: float) -> Float[Tensor, ""]:
    """mean max(0, margin + D(q)): an anomalous patch costs nothing from -`margin` downwards."""
    return F.relu(margin + answers).mean()


def top_hinge(answers: Float[Tensor, "b p"], margin: float, share: float) -> Float[Tensor, ""]:
    """`anomaly_hinge` of each image's most anomalous patches alone: an anomaly may have normal parts."""
    return anomaly_hinge(most_anomalous(answers, share), margin)


def masked_hinge(
    answers: Float[Tensor, "b p"], cover: Float[Tensor, "b p"], margin: float, least: float
) -> Float[Tensor, ""]:
    """`anomaly_hinge` of the patches of which a mask covers `least` or more; 0 where there is none.

    The others teach nothing: a patch sees far beyond itself, so what lies beside a defect is no normal patch.
    """
    odd = (cover >= least) & (cover > 0)
    return (F.relu(margin + answers) * odd).sum() / odd.sum().clamp(min=1)


def most_anomalous(answers: Float[Tensor, "b p"], share: float) -> Float[Tensor, "b k"]:
    """Each image's lowest D(q): k = share p, rounded, and at least one."""
    p = answers.shape[1]
    return -(-answers).topk(max(1, min(p, round(share * p))), dim=1).values


def image_scores(answers: Float[Tensor, "b p"], share: float) -> Float[Tensor, "b"]:
    """The mean of -D(q) over the most anomalous `share` of the patches; 0 is the maximum. Higher = more anomalous."""
    return -most_anomalous(answers, share).mean(dim=1)
