"""Whether a drawn picture shows the colour and shape words of its caption, as classifiers of real pictures see it.

For each word that occurs often enough, a logistic regression learns from the training pictures whether a picture's
captions say it. It then judges held-out real pictures and drawn ones with the very same captions: what it reaches on
the real ones is what such a classifier can tell at all, and 50 % is chance.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

WORDS: dict[str, tuple[str, ...]] = {
    "color": (
        "white", "cream", "yellow", "golden", "orange", "peach", "coral", "red", "maroon", "pink", "magenta",
        "lavender", "lilac", "purple", "violet", "blue", "green", "brown", "black", "grey", "gray",
    ),
    "shape": (
        "round", "rounded", "oval", "pointed", "pointy", "narrow", "slender", "thin", "broad", "wide", "flat", "long",
        "short", "straight", "curved", "curled", "curly", "heart", "star", "bell", "trumpet", "tubular", "cup", "spoon",
        "fan", "fringed", "ruffled", "wavy", "spiky", "feathery", "overlapping", "layered", "striped", "spotted",
        "veined", "square", "rectangular", "circular", "triangular", "dense", "sparse",
    ),
}  # fmt: skip
"""Kind -> the words that are looked for, whole: of "heart-shaped", heart is one."""
LEAST_TRAINING, LEAST_HELD = 40, 10
"""Pictures with the word, and without it, that there must be to learn from and to judge."""
COMPONENTS = 128
"""Of the features: what a few thousand pictures can support."""
RIDGE = 0.1
"""C of the logistic regression; on Oxford-102 anything from 0.01 to 1 judges held-out real pictures equally well."""


@dataclass(frozen=True, kw_only=True)
class WordFigures:
    """How well one word is seen. AUROC and balanced accuracy are shares; chance is 0.5."""

    word: str
    kind: str
    """A key of WORDS."""
    captions: int
    """With the word, of those that were drawn."""
    real_auroc: float
    """On held-out real pictures."""
    drawn_auroc: float
    """On drawn pictures with the same captions."""
    real_balanced: float
    drawn_balanced: float


def said(captions: Sequence[str]) -> list[set[str]]:
    """The words of each caption, in small letters."""
    return [set(re.findall(r"[a-z]+", caption.lower())) for caption in captions]


def word_agreement(
    training: Float[np.ndarray, "_m d"], told: Sequence[Sequence[str]], real: Float[np.ndarray, "_n d"],
    drawn: Float[np.ndarray, "_n d"], captions: Sequence[str],
) -> list[WordFigures]:  # fmt: skip
    """The figures of each word that is frequent enough, in the order of WORDS.

    Args:
        told: The captions of each training picture: one that some of them say counts in part for the word, and in part
            against it.
        captions: Of the held-out real pictures, and of the drawn ones: `real[i]` and `drawn[i]` have caption i.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(training)
    reduced = PCA(min(COMPONENTS, *training.shape), whiten=True, random_state=0).fit(scale.transform(training))
    x, at, of = (reduced.transform(scale.transform(features)) for features in (training, real, drawn))
    has, in_training = said(captions), [said(given) for given in told]
    found = []
    for kind, words in WORDS.items():
        for word in words:
            share = np.array([np.mean([word in one for one in given]) for given in in_training])
            positive = np.array([word in one for one in has])
            if min(share.sum(), (1 - share).sum()) >= LEAST_TRAINING and LEAST_HELD <= positive.sum() <= (
                len(positive) - LEAST_HELD
            ):
                found.append(_figures(word, kind, x, share, at, of, positive))
    return found


def _figures(
    word: str, kind: str, x: np.ndarray, share: np.ndarray, real: np.ndarray, drawn: np.ndarray, positive: np.ndarray
) -> WordFigures:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    with_word, without = np.flatnonzero(share > 0), np.flatnonzero(share < 1)
    rows = np.concatenate([with_word, without])
    labels = np.arange(len(rows)) < len(with_word)
    weights = np.concatenate([share[with_word] / share.sum(), (1 - share[without]) / (1 - share).sum()])
    model = LogisticRegression(C=RIDGE, max_iter=300).fit(x[rows], labels, sample_weight=weights * len(x) / 2)
    scores = [model.decision_function(features) for features in (real, drawn)]
    areas = [float(roc_auc_score(positive, score)) for score in scores]
    balanced = [float(balanced_accuracy_score(positive, score > 0)) for score in scores]
    return WordFigures(
        word=word, kind=kind, captions=int(positive.sum()), real_auroc=areas[0], drawn_auroc=areas[1],
        real_balanced=balanced[0], drawn_balanced=balanced[1],
    )  # fmt: skip
