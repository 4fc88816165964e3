"""How good an image model is, measured: its words, its distance to real pictures, and whether it copies.

It draws captions of held-out real pictures, so that each drawn picture stands beside the real one of its caption.
Figures come beside those of real pictures of the same number: what a perfect model would reach.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from kka.algorithm.pictures import draw_pictures, fit_pictures
from kka.common.cache import ImageCache
from kka.common.progress import StageProgress
from kka.errors import UserError
from kka.imaging.quality.appearance import appearance
from kka.imaging.quality.copies import Nearest, nearest, share_nearer
from kka.imaging.quality.frechet import frechet_distance
from kka.imaging.quality.words import WordFigures, word_agreement
from kka.protocols import ImageModel, Images
from kka.seeding import derive_seed
from kka.settings.quality import QualitySettings
from kka.task import Knowledge

LEAST = 20
"""Pictures that there must be, of each side."""
PIXELS = 32
"""Side at which pixels are compared."""
Features = Callable[[Images], Float32[np.ndarray, "_n _d"]]


@dataclass(frozen=True, kw_only=True)
class CopyFigures:
    """Distances to the nearest training picture, of drawn pictures and of held-out real ones."""

    of: str
    """pixels or features, or either "relative": to the nearest 50."""
    drawn_median: float
    real_median: float
    limit: float
    """The 1 % quantile of the real ones."""
    drawn_nearer: float
    """Share of the drawn ones below it: 0.01 for a model that is as far as real pictures are."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What was measured."""

    pictures: int
    """Drawn, and real ones beside them; as many of the other half."""
    set_aside: int
    """Drawn pictures that show nothing."""
    dimensions: int
    """Of the features."""
    words: tuple[WordFigures, ...]
    frechet_drawn: float
    """Of the drawn pictures to the other half of the real ones; features in units of their deviation."""
    frechet_real: float
    """Of the real pictures with the same captions to that same half: how near n pictures can come."""
    copies: tuple[CopyFigures, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain types, with the means over the words."""
        return {**asdict(self), "means": self.means()}

    def means(self) -> dict[str, dict[str, float]]:
        """Kind of word -> figure -> its mean over the words of the kind; "all" over all. Empty without words."""
        kinds = ["all", *dict.fromkeys(figures.kind for figures in self.words)] if self.words else []
        return {
            kind: {
                name: float(np.mean([getattr(w, name) for w in self.words if kind in ("all", w.kind)]))
                for name in ("real_auroc", "drawn_auroc", "real_balanced", "drawn_balanced")
            }
            for kind in kinds
        }


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The pictures behind the figures, row by row of one caption each."""

    captions: tuple[str, ...]
    drawn: Images
    real: Images
    nearest: Images
    """The training picture that is nearest to the drawn one in features."""
    relative: Float32[np.ndarray, " _n"]
    """How near, beside its next ones: see `Nearest.relative`."""


def measure_quality(
    model: ImageModel,
    training: Knowledge,
    held_out: Knowledge,
    *,
    settings: QualitySettings | None = None,
    features: Features = appearance,
    cache: ImageCache | None = None,
    progress: StageProgress | None = None,
) -> tuple[Quality, Shown]:
    """Draw captions of one half of `held_out`, and compare with both halves and with `training`.

    Args:
        training: What the model learned from, or might have.
        held_out: Pictures that it did not, in random order; of the same size and the same classes.
        features: Of pictures (n, h, w, 3), as (n, d): `kka.detectors.pooled.pooled_features` of a backbone, or plain
            statistics of colours and edges. They need not be of one scale.
        cache: Of drawn pictures: what was drawn before is not drawn again.

    Raises:
        UserError: too few pictures; pictures of different sizes; an image model that draws nothing.
    """
    settings = settings or QualitySettings()
    n = min(settings.pictures, len(held_out.images) // 2)
    _refuse_unlike(training, held_out, n)
    captions = [
        told[derive_seed(settings.seed, "quality-caption", i) % len(told)]
        for i, told in enumerate(held_out.captions[:n])
    ]
    seeds = [derive_seed(settings.seed, "quality", i) for i in range(n)]
    tell = None if progress is None else (lambda done, total: progress("images", done, total))
    made = draw_pictures(model, captions, seeds=seeds, cache=cache, size=training.images.shape[1:3], progress=tell)
    if len(made.kept) < LEAST:
        raise UserError(
            f"quality: {len(made.kept)} of {n} pictures of {model.identity} show anything; expected {LEAST}"
        )
    kept, told = list(made.kept), [captions[i] for i in made.kept]
    real, other = held_out.images[kept], held_out.images[n : n + len(kept)]
    sides = (training.images, made.images, real, other)
    known, drawn, beside, apart = _scaled([features(side) for side in sides])
    if progress is not None:
        progress("comparing", 0, 1)
    pixels = [_pixels(side) for side in sides]
    mirrored = _pixels(training.images[:, :, ::-1])
    near = {
        "features": (nearest(drawn, known), nearest(np.concatenate([beside, apart]), known)),
        "pixels": (
            nearest(pixels[1], pixels[0], mirrored), nearest(np.concatenate(pixels[2:]), pixels[0], mirrored)
        ),
    }  # fmt: skip
    found = Quality(
        pictures=len(kept),
        set_aside=len(made.set_aside),
        dimensions=known.shape[1],
        words=tuple(word_agreement(known, training.captions, beside, drawn, told)),
        frechet_drawn=frechet_distance(drawn, apart),
        frechet_real=frechet_distance(beside, apart),
        copies=tuple(figures for of, (mine, theirs) in near.items() for figures in _copies(of, mine, theirs)),
    )
    if progress is not None:
        progress("comparing", 1, 1)
    most_alike = near["features"][0]
    shown = Shown(
        captions=tuple(told), drawn=made.images, real=real, nearest=training.images[most_alike.index],
        relative=most_alike.relative.astype(np.float32),
    )  # fmt: skip
    return found, shown


def _refuse_unlike(training: Knowledge, held_out: Knowledge, n: int) -> None:
    """Raises UserError for too few pictures, and for pictures of different sizes."""
    if min(n, len(training.images)) < LEAST:
        raise UserError(
            f"quality: expected at least {LEAST} training pictures and {2 * LEAST} held-out ones; got "
            f"{len(training.images)} and {len(held_out.images)}"
        )
    if training.images.shape[1:] != held_out.images.shape[1:]:
        raise UserError(
            f"quality: expected training and held-out pictures of one size; got {training.images.shape[1:3]} and "
            f"{held_out.images.shape[1:3]}"
        )


def _scaled(sides: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each feature in units of its deviation over the first side, the training pictures; constant ones are left out."""
    mean, deviation = sides[0].mean(axis=0, dtype=np.float64), sides[0].std(axis=0, dtype=np.float64)
    varies = deviation > 1e-6
    return [((side[:, varies] - mean[varies]) / deviation[varies]).astype(np.float32) for side in sides]


def _pixels(images: Images) -> Float32[np.ndarray, "_n _d"]:
    return fit_pictures(images, (PIXELS, PIXELS)).reshape(len(images), -1).astype(np.float32)


def _copies(of: str, drawn: Nearest, real: Nearest) -> list[CopyFigures]:
    found = []
    for name, a, b in ((of, drawn.distance, real.distance), (f"{of}, relative", drawn.relative, real.relative)):
        share, limit = share_nearer(a, b)
        drawn_median, real_median = float(np.median(a)), float(np.median(b))
        found.append(
            CopyFigures(
                of=name, drawn_median=drawn_median, real_median=real_median, limit=limit, drawn_nearer=share
            )
        )  # fmt: skip
    return found
