"""SimpleNet's trained part: adaptor, discriminator and image head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kka.detectors.simplenet.loss import image_scores


class Heads(nn.Module):
    """Patch features (b, p, d) -> D (b, p), high = normal, and the image head's answer (b,), high = anomalous."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dimension: int, hidden: int) -> None:
        super().__init__()
        self.adaptor = nn.Linear(dimension, dimension)
        first, last = nn.Linear(dimension, hidden), nn.Linear(hidden, 1, bias=False)
        self.discriminator = nn.Sequential(first, nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2), last)
        self.head = nn.Linear(2 * dimension, 1)
        self.register_buffer("mean", torch.zeros(dimension))
        self.register_buffer("scale", torch.ones(()))
        for module in (self.adaptor, first, last):
            nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(self.head.weight)  # without anomalies it is never trained, and adds nothing
        nn.init.zeros_(self.head.bias)

    def adapt(self, patches: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        return self.adaptor((patches - self.mean) * self.scale)

    def answers(self, adapted: Float[Tensor, "b p d"]) -> Float[Tensor, "b p"]:
        return self.discriminator(adapted.flatten(0, 1)).view(adapted.shape[:2])

    def image(self, adapted: Float[Tensor, "b p d"]) -> Float[Tensor, "b"]:
        return self.head(torch.cat([adapted.mean(dim=1), adapted.amax(dim=1)], dim=1))[:, 0]

    def score(self, patches: Float[Tensor, "b p d"], share: float) -> Float[Tensor, "b"]:
        """The image's score from the most anomalous `share` of its patches and the head; higher = more anomalous."""
        adapted = self.adapt(patches)
        return image_scores(self.answers(adapted), share) + self.image(adapted)
