"""An image library in the place of f_I (Eq. 4): a caption gets the picture whose own captions are most like it.

The similarity of a caption and a picture is the largest cosine between it and any caption of the picture: of TF-IDF
vectors over words and word pairs by default, of sentence embeddings on request. Pictures are named by their pixels.
"""

from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from kka.algorithm.pictures import unusable
from kka.common.cache import Picture, pixel_hash
from kka.common.texts import SentenceEncoder
from kka.errors import UserError
from kka.protocols import Images
from kka.settings import refuse_unknown
from kka.settings.drawing import DrawingSettings
from kka.task import Knowledge

SETTINGS = ("embedding",)
"""What a bank knows of `DrawingSettings`; a folder's, `size` as well."""
CHUNK_BYTES = 32_000_000
"""Similarities are computed for as many captions at a time as fit in this: memory stays flat."""

Similarities = Float32[np.ndarray, "captions texts"]


class Similarity(Protocol):
    """How like two captions are; built over the m distinct captions of a library."""

    identity: str

    def __call__(self, captions: Sequence[str]) -> Similarities:
        """(n, m), higher = more alike."""
        ...


class TfIdf:
    """Cosine of TF-IDF vectors over words and pairs of words, weighted by their rarity in the library."""

    identity = "tf-idf"

    def __init__(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectors = TfidfVectorizer(ngram_range=(1, 2), dtype=np.float32)
        try:
            self._texts = self._vectors.fit_transform(texts).T.tocsr()  # (words, texts)
        except ValueError as error:  # scikit-learn's "empty vocabulary"
            raise UserError(
                f"captions of the image bank: expected words; got, for one, {texts[0]!r} ({error})"
            ) from error

    def __call__(self, captions: Sequence[str]) -> Similarities:
        return (self._vectors.transform(captions) @ self._texts).toarray()


class Embeddings:
    """Cosine of sentence embeddings. `name`: `hf:<hub id or folder>` of a Sentence Transformers model."""

    def __init__(self, texts: Sequence[str], name: str, *, device: str | None = None) -> None:
        self.identity = name
        self._embed = SentenceEncoder(name, device=device, name="embedding")
        self._texts = self._embed(texts)

    def __call__(self, captions: Sequence[str]) -> Similarities:
        # Batches of another shape differ in the last bits; rounding keeps equal captions equally near.
        return np.round(self._embed(captions) @ self._texts.T, 5)


class BankModel:
    """An `ImageLibrary` over `knowledge`. Each picture counts once, however often the library holds it.

    `forbidden_hashes`: `pixel_hash` of pictures that must never be given, such as those of a test set.
    `settings`: `embedding` alone. `device`: of the embeddings. `name`: as the user named the library.
    `left_out` says what the library holds and does not give: a count for each reason.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        *,
        settings: DrawingSettings | None = None,
        forbidden_hashes: Collection[str] = frozenset(),
        device: str | None = None,
        name: str = "train",
    ) -> None:
        settings = settings or DrawingSettings()
        refuse_unknown(settings, SETTINGS, of=f"bank:{name}", group="drawing")
        self.name = name
        self._images = knowledge.images
        self._place: dict[str, int] = {}  # key -> its first place in knowledge.images
        captions: dict[str, list[str]] = {}
        self.left_out = dict.fromkeys(("forbidden", "no caption", "one colour", "duplicate"), 0)
        for place, (image, written) in enumerate(zip(knowledge.images, knowledge.captions, strict=True)):
            key = pixel_hash(image)
            texts = [text.strip() for text in written if text.strip()]
            if reason := _left_out(key, image, texts, forbidden_hashes):
                self.left_out[reason] += 1
                continue
            self.left_out["duplicate"] += key in self._place
            self._place.setdefault(key, place)
            captions.setdefault(key, []).extend(texts)
        if not captions:
            raise UserError(
                f"image bank {name!r}: expected pictures with captions; got {len(knowledge.images)} pictures, "
                f"all left out: {self._why()}"
            )
        self.keys = tuple(captions)
        texts = sorted({text for written in captions.values() for text in written})
        number = {text: i for i, text in enumerate(texts)}
        self._text_of = np.array([number[t] for written in captions.values() for t in written])
        self._starts = np.cumsum([0, *(len(written) for written in captions.values())])[:-1]
        self._similarity: Similarity = (
            TfIdf(texts)
            if settings.embedding is None
            else Embeddings(texts, settings.embedding, device=device)
        )
        self._texts = len(texts)
        content = blake2b(digest_size=8)
        for item in captions.items():
            content.update(repr(item).encode())
        self.identity = f"bank:{name}:{content.hexdigest()}:{self._similarity.identity}"

    def __len__(self) -> int:
        return len(self.keys)

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images:
        """The nearest picture to each caption, each caption on its own: one picture may come more than once."""
        nearest = self.similarities(captions)
        return self.fetch([self.keys[_best(row, seed)] for row, seed in zip(nearest, seeds, strict=True)])

    def retrieve(self, captions: Sequence[str], *, seeds: Sequence[int], taken: Collection[str]) -> list[str]:
        """Caption by caption, the key of the nearest picture not in `taken` and not given before in this call.

        Among equally near pictures the seed chooses. UserError when the pictures do not suffice.
        """
        gone = set(taken)
        free = np.array([key not in gone for key in self.keys])
        if len(captions) > free.sum():
            raise UserError(
                f"image bank {self.name!r} is exhausted: expected {len(captions)} more pictures, each at most "
                f"once in a run; got {free.sum()} left of {len(self)} ({self._why()}). "
                "Generate fewer pictures or give a larger library."
            )
        given: list[str] = []
        for similarities, seed in zip(self.similarities(captions), seeds, strict=True):
            chosen = _best(np.where(free, similarities, -np.inf), seed)
            free[chosen] = False
            given.append(self.keys[chosen])
        return given

    def left(self, taken: Collection[str]) -> int:
        """How many pictures are not in `taken`."""
        return len(set(self.keys) - set(taken))

    def fetch(self, keys: Sequence[str]) -> Images:
        """The pictures of `keys`."""
        missing = [key for key in keys if key not in self._place]
        if missing:
            raise UserError(f"image bank {self.name!r}: expected keys of its pictures; got {missing[0]!r}")
        return self._images[[self._place[key] for key in keys]]

    def similarities(self, captions: Sequence[str]) -> Iterator[Float32[np.ndarray, "pictures"]]:
        """Of each caption, its similarity to each picture of `keys`, in [-1, 1]; a stream, caption by caption."""
        chunk = max(1, CHUNK_BYTES // (4 * (self._texts + len(self._text_of))))
        for start in range(0, len(captions), chunk):
            to_texts = self._similarity(captions[start : start + chunk])
            yield from np.maximum.reduceat(to_texts[:, self._text_of], self._starts, axis=1)

    def _why(self) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in self.left_out.items() if count) or "none left out"


def _left_out(key: str, image: Picture, texts: Sequence[str], forbidden: Collection[str]) -> str | None:
    """Why the library does not give a picture, or None."""
    if key in forbidden:
        return "forbidden"
    if not texts:
        return "no caption"
    return "one colour" if unusable(image) else None  # it would be set aside, and be the nearest again


def _best(similarities: Float32[np.ndarray, "pictures"], seed: int) -> int:
    """The place of the largest; the seed chooses among equals."""
    equal = np.flatnonzero(similarities == similarities.max())
    if len(equal) == 1:
        return int(equal[0])
    return int(np.random.default_rng(seed).choice(equal))
