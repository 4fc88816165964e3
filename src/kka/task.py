"""What a run is about: normal images with captions, what may be known of anomalies, and a sealed test set."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kka.errors import UserError
from kka.protocols import Images, Photos, Pictures
from kka.settings.fit import Fit

MIN_NORMALS = 8
"""Fewer normals than this give no distribution to learn: a task refuses them."""


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """A file that could not be used, and why. It is named in every summary, never silently dropped."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """The labelled test images. Labels reach `kka.common.metrics` and nothing else."""

    __test__ = False  # not a pytest class

    images: Images
    is_anomaly: np.ndarray
    """(n,) bool."""
    kinds: tuple[str, ...]
    """The class or defect name of each image."""
    seen: np.ndarray | None = None
    """(n,) bool: whether the class of an anomaly may be known to the models. None: no such split was asked for."""
    masks: np.ndarray | None = None
    """(n, h, w) bool: what a person marked as defective, at the size and fit of the images. None: no masks."""
    masked: np.ndarray | None = None
    """(n,) bool: whether an image's mask is known; of a normal that has none it is empty."""
    photos: Photos | None = None
    """Where photos are cut into tiles: the photos. `images` and `masks` are small squashed views of them, to show."""

    @property
    def pictures(self) -> Pictures:
        """What is scored."""
        return self.images if self.photos is None else self.photos


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """Training images of other classes, with captions: what a language model or an image bank may know.

    Never a test image, and never a class that was withheld.
    """

    images: Images
    captions: tuple[tuple[str, ...], ...]
    """The captions of each image."""
    kinds: tuple[str, ...]
    """The class name of each image."""

    def only(self, places: Sequence[int]) -> "Knowledge":
        """Those at these places, in this order."""
        return Knowledge(
            images=self.images[list(places)],
            captions=tuple(self.captions[i] for i in places),
            kinds=tuple(self.kinds[i] for i in places),
        )

    @property
    def digest(self) -> str:
        """Of pixels and captions, in their order."""
        digest = hashlib.blake2b(digest_size=10)
        for image in self.images:  # one at a time: no copy of them all
            digest.update(np.ascontiguousarray(image).data)
        digest.update(repr(self.captions).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Task:
    """One anomaly-detection task. `captions[i]` describes `normals[i]`."""

    name: str
    normals: Images
    captions: tuple[str, ...]
    domain: str
    """What the pictures show, in the plural, as the prompt says it: "flowers"."""
    test: TestSet | None = None
    knowledge: Knowledge | None = None
    set_aside: tuple[SetAside, ...] = ()
    source: str = ""
    """Where the data came from, as the user named it."""
    details: dict[str, object] = field(default_factory=dict)
    """Facts for the summary: counts, class names, the withheld classes."""
    white: int = 65535
    """The value of 16-bit grey files that was read as white: what is scored later must be read alike."""

    fit: Fit = "crop"
    """How the photos became squares: what is scored later must become one alike."""

    photos: Photos | None = None
    """Where photos are cut into tiles: those of the normals. `normals` are tiles of them."""
    photo_of: np.ndarray | None = None
    """(n,) int: the position in `photos` of the photo that each normal is a tile of; of copies, that of the first. What
    is split is split by it."""

    def __post_init__(self) -> None:
        if len(self.normals) < MIN_NORMALS:
            raise UserError(
                f"a task needs at least {MIN_NORMALS} normal images to learn from; got {len(self.normals)} "
                f"from {self.source or self.name}. Add more photos of the normal."
            )
        if len(self.captions) != len(self.normals):
            raise UserError(
                f"captions: expected one for each of the {len(self.normals)} normal images; got {len(self.captions)}"
            )
