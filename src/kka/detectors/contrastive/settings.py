"""The settings of SSD and CMDA."""

from typing import Literal

from kka.common.texts import check_encoder
from kka.settings import Epochs, Few, NonNegative, Passes, Positive, Side, Text, Width, settings


@settings()
class ContrastiveSettings:
    """What the two have in common: the network, and how it is trained."""

    depth: Literal[10, 18, 34, 50, 101] = 50
    """Of the ResNet."""
    width: Width = 64
    """Channels of the ResNet's stem; 64 is the usual ResNet, and a quarter of it costs a sixteenth."""
    size: Side = 32
    """Pixels a side that the network sees."""
    batch_size: Width = 512
    """Normals a step; as many anomalies join them where there are some."""
    learning_rate: Positive = 0.5
    """At the start (of CMDA: of either step); it falls along half a cosine to 0."""
    momentum: NonNegative = 0.9
    weight_decay: NonNegative = 1e-4
    temperature: Positive = 0.5
    """tau of NT-Xent and SupCon."""
    outlier_score: bool = True
    """With anomalies: subtract the distance to them (SSD_k). False uses them as negatives of the training alone."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """fp32, bf16 (autocast; weights stay fp32), or auto: bf16 on CUDA, fp32 elsewhere. Scores are fp32."""
    device: Text = "auto"


@settings()
class SSDSettings(ContrastiveSettings):
    """How SSD is trained and scores. The defaults are the published ones."""

    epochs: Epochs = 500
    """Passes over the normals."""
    clusters: Few = 1
    """K: Gaussians that the normals are split into by k-means; the score is the distance to the nearest."""


@settings()
class CMDASettings(ContrastiveSettings):
    """How CMDA is trained. The defaults are the published ones, but for `outlier_score`: with it off, which leaves the
    published score, it measured no worse than with both."""

    text: Text = "tfidf"
    """What embeds the captions: tfidf, or hf:<hub id or folder> of a Sentence Transformers model."""
    text_width: Width = 4096
    """Of both hidden layers on top of the captions' embeddings."""
    text_weight: NonNegative = 0.1
    """Weight of SupCon(view, text) in step 1."""
    image_epochs: Epochs = 50
    """Step 1: passes over the normals with SupCon(view1, view2) + text_weight SupCon(view1, text)."""
    generation_epochs: Passes = 150
    """Step 2: passes with SupCon(generated, view2)."""
    batch_size: Width = 128
    learning_rate: Positive = 1e-2
    outlier_score: bool = False

    def __post_init__(self) -> None:
        check_encoder(self.text, name="text")
