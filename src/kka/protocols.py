"""The interfaces of the exchangeable parts. A member needs one or two methods, and no base class.

`Images` is an array of unsigned bytes of shape (n, h, w, 3), RGB.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

Images = UInt8[np.ndarray, "_n _h _w 3"]
"""The underscores: two arguments of one function may differ in number and size."""
Masks = UInt8[np.ndarray, "_n _h _w"]
"""Where an image is anomalous: 0 nowhere, up to 255 the more of a pixel."""
Scores = Float[np.ndarray, "n"]


@runtime_checkable
class Photos(Protocol):
    """Whole photos, of any sizes, which a detector sees tile by tile. Each is read when it is asked for."""

    @property
    def side(self) -> int:
        """Of a tile, in pixels of the photo."""
        ...

    @property
    def overlap(self) -> float:
        """The share of a tile's side that it has in common with its neighbour, at least."""
        ...

    @property
    def digests(self) -> tuple[str, ...]:
        """Of each photo: equal ones show the same. Empty: not known."""
        ...

    def __len__(self) -> int: ...

    def only(self, positions: Sequence[int]) -> "Photos":
        """Those at these positions, in this order."""
        ...

    def read(self, position: int) -> Any:
        """The photo as a `PIL.Image.Image`, RGB."""
        ...

    def mask(self, position: int) -> Bool[np.ndarray, "h w"] | None:
        """What is marked of it, at the size of its map; None where that is not known."""
        ...


Pictures = Images | Photos
"""What a detector scores: squares, or whole photos by their tiles."""


@dataclass(frozen=True, kw_only=True)
class PreferencePair:
    """One comparison of Eq. 7: under `prompt` (of x_n), `hard` (x_ha) is preferred to `easy` (x_ea)."""

    prompt: str
    hard: str
    easy: str


@dataclass(frozen=True, kw_only=True)
class DPOReport:
    """What one tuning step (Eq. 7) did. `margin` and `accuracy` are those of the validation pairs' rewards."""

    steps: int
    train_pairs: int
    validation_pairs: int
    train_loss: float
    validation_loss: float
    margin: float
    accuracy: float
    kl_to_base: float
    """Estimated on fresh samples, in nats a caption."""
    step: float = 1.0
    """Share of the way that the tuning went, where it would have led too far from the base model."""
    base_entropy: float | None = None
    """Of the base model's own answers, in nats a caption; None: not measured, as in the two below."""
    different_before: int | None = None
    """Different captions among so many answers, as the model was before this tuning."""
    different_after: int | None = None
    """The same, as the tuning left it."""
    answers: int = 100
    """Among which they were counted."""


@runtime_checkable
class LanguageModel(Protocol):
    """Eq. 3: writes captions."""

    def sample(self, prompts: Sequence[str], n: int, *, seed: int) -> list[list[str]]:
        """`n` raw answers to each prompt, prompt by prompt."""
        ...


@runtime_checkable
class TunableLanguageModel(LanguageModel, Protocol):
    """A language model that Eq. 7 can tune. The base model stays as it is: only an adapter changes."""

    def tune(self, pairs: Sequence[PreferencePair], validation: Sequence[PreferencePair], *, seed: int) -> DPOReport:
        """Go on from the present adapter; the reference is always the base model."""
        ...

    def save(self, path: Path) -> None:
        """Write the adapter (safetensors) into the folder `path`."""
        ...

    def restore(self, path: Path) -> None:
        """Take up an adapter that `save` wrote."""
        ...


@runtime_checkable
class ImageModel(Protocol):
    """Eq. 4: draws captions. Image i depends on caption i and seed i alone, never on its neighbours."""

    identity: str
    """Names the model and all that shapes its pictures: the key under which they are cached."""

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images: ...


@runtime_checkable
class ImageLibrary(ImageModel, Protocol):
    """An image model that looks pictures up. It gives each of its pictures at most once in a run."""

    def retrieve(self, captions: Sequence[str], *, seeds: Sequence[int], taken: Collection[str]) -> list[str]:
        """The key of the nearest picture to each caption that is neither in `taken` nor given before it."""
        ...

    def fetch(self, keys: Sequence[str]) -> Images: ...


@dataclass(frozen=True, kw_only=True)
class Altered:
    """Normals with a defect, and where it is."""

    images: Images
    masks: Masks
    """0 where the normal is as it was, to the last bit; up to 255 the more of a pixel the defect covers."""


@runtime_checkable
class Alters(Protocol):
    """Eq. 4 on a photo: paints what a caption says on a normal. Picture i depends on normal, caption, seed i alone."""

    identity: str
    """Names the model and all that shapes its pictures: with normal, caption and seed the key of their cache."""

    def alter(self, normals: Images, captions: Sequence[str], *, seeds: Sequence[int]) -> Altered:
        """Normal i altered as caption i says, at its own size; nothing that was given is changed."""
        ...


@runtime_checkable
class Detector(Protocol):
    """Scores images: higher = more anomalous.

    What more a detector can do, a small protocol says: `TakesMore`, `MayIgnoreAnomalies`, `Embeds`, `Localises`,
    `Exports`, `Pretrains`, `ChecksWeights`, `LimitsInput`, `Trained`, `AddsNoise`, `HasSettings`. None of them is
    needed.
    """

    def fit(self, normals: Images, anomalies: Images | None = None) -> "Detector": ...

    def score(self, images: Images) -> Scores: ...

    def save(self, path: Path) -> None:
        """Write everything that `score` needs into the folder `path` (safetensors and JSON, no pickle)."""
        ...


# --- what a member may be able to do beyond its protocol ---------------------------------------------------------


@runtime_checkable
class Identified(Protocol):
    """A language model with a name that changes with its weights: captions carry it as their origin."""

    identity: str


@runtime_checkable
class CountsTokens(Protocol):
    """A language model that counts what it writes."""

    tokens_written: int
    """So far."""


@runtime_checkable
class TellsMore(Protocol):
    """A language model that says, in a line of text, how long a tuning will take."""

    say: Callable[[str], None] | None


@runtime_checkable
class Metered(Protocol):
    """A language model that is paid for by what it reads and writes."""

    tokens_read: int
    """So far."""
    cost: float | None
    """So far, in the currency of its prices; None: they are not known."""


@runtime_checkable
class WritesLists(Protocol):
    """A language model that may put several captions into one answer."""

    captions_an_answer: int
    """As many as it is asked for."""


@runtime_checkable
class DrawsInBatches(Protocol):
    """An image model that knows how many pictures it draws best at a time."""

    batch_size: int


@runtime_checkable
class IgnoresWords(Protocol):
    """An image model that counts the words it does not understand."""

    ignored_words: int
    """So far."""


@runtime_checkable
class ReadsDefects(Protocol):
    """An image model that knows defects by name. Of a caption that names none it chooses one itself."""

    def reads(self, caption: str) -> bool:
        """Whether the caption names a defect that it knows."""
        ...


@runtime_checkable
class LeavesTraces(Protocol):
    """A model that alters by a network, whose ways of drawing a detector may learn in the place of the defect."""

    def traces(self, normals: Images, masks: Masks) -> Images:
        """Normal i altered by nothing: where mask i is, and weighted by it, as the network gives it back; elsewhere as
        it was, to the last bit."""
        ...


@runtime_checkable
class RunsDry(Protocol):
    """An image library that knows how many pictures it has left to give."""

    def left(self, taken: Collection[str]) -> int: ...


@runtime_checkable
class TakesMore(Protocol):
    """A detector that `fit` tells more: `takes` names what, of "captions" (of the normals), "hard" (Eq. 6: which
    anomalies are) and "masks" (where each anomaly is one; None: not known), and `fit` takes it by that name; see
    `kka.detectors.fit_detector`."""

    takes: frozenset[str]


@runtime_checkable
class MayIgnoreAnomalies(Protocol):
    """A detector that says whether `fit` learns from anomalies: one that does not is trained and kept, but a run, whose
    point is to compare what anomalies are worth, refuses it."""

    @property
    def uses_anomalies(self) -> bool: ...


@runtime_checkable
class Embeds(Protocol):
    """A detector with a latent space."""

    def embed(self, images: Images) -> Float[np.ndarray, "n d"]: ...


@runtime_checkable
class Localises(Protocol):
    """A detector that says where."""

    def score_map(self, images: Images) -> Float[np.ndarray, "n h w"]:
        """At the images' own size: higher = more anomalous."""
        ...


@runtime_checkable
class Exports(Protocol):
    """A detector that is one module from pixels (b, h, w, 3) to scores (b,)."""

    def graph(self) -> Any:
        """The `torch.nn.Module`."""
        ...


@runtime_checkable
class Pretrains(Protocol):
    """A detector whose training starts from weights that several detectors of one seed can share."""

    def pretrain(self, normals: Images) -> Any: ...

    def pretrained(self, start: Any) -> Detector:
        """Itself, to start from what `pretrain` gave."""
        ...


@runtime_checkable
class ChecksWeights(Protocol):
    """A detector with weights from elsewhere."""

    def check_weights(self) -> None:
        """Load them and let them go. UserError for weights that cannot be had or do not fit."""
        ...


@runtime_checkable
class LimitsInput(Protocol):
    """A detector that makes no use of larger images."""

    @property
    def input_size(self) -> int:
        """Pixels a side."""
        ...


@runtime_checkable
class Trained(Protocol):
    """A fitted detector that tells how its training went."""

    losses_: list[float]
    """The training loss in the order of time, of each epoch or iteration."""


@runtime_checkable
class AddsNoise(Protocol):
    """A trained detector that made anomalies of its own out of noise."""

    noise_draws_: int
    """How many."""


@runtime_checkable
class HasSettings(Protocol):
    """The class of a detector that is set up by a class of settings: `settings=` of its constructor."""

    SETTINGS: ClassVar[type[Any]]
    PRESETS: ClassVar[Mapping[str, Any]]


def identity_of(model: LanguageModel) -> str:
    """What names a language model: its identity, or its class where it has none."""
    return model.identity if isinstance(model, Identified) else type(model).__name__
