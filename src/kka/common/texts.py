"""Captions as vectors: by TF-IDF and a truncated SVD (offline, the default), or by a sentence-embedding model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from kka.errors import UserError

DIMENSIONS = 256
"""Of the TF-IDF vectors, at most: captions of one task span no more than that."""


def check_encoder(encoder: str, *, name: str) -> None:
    """Raises UserError, which names the parameter `name`, for anything but tfidf or hf:<hub id or folder>."""
    if encoder != "tfidf" and not (encoder.startswith("hf:") and encoder != "hf:"):
        raise UserError(f"{name}: expected tfidf or hf:<hub id or folder>; got {encoder!r}")


def embed_texts(
    captions: Sequence[str], encoder: str = "tfidf", *, seed: int = 0, device: str | None = None, name: str = "text"
) -> Float32[np.ndarray, "n d"]:
    """A vector of length 1 for each caption (0 where a caption has none of the words), equal for equal seeds.

    Args:
        encoder: tfidf, whose words and directions are those of `captions` themselves, or hf:<hub id or folder> of a
            Sentence Transformers model.
        seed: Of the truncated SVD.
        name: The parameter that errors name.

    Raises:
        UserError: an encoder that is unknown or cannot be had; captions without any word.
    """
    check_encoder(encoder, name=name)
    if encoder == "tfidf":
        return _tfidf(captions, seed=seed, name=name)
    return SentenceEncoder(encoder, device=device, name=name)(captions)


def _tfidf(captions: Sequence[str], *, seed: int, name: str) -> Float32[np.ndarray, "n d"]:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    try:
        counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(captions)
    except ValueError as error:  # scikit-learn's "empty vocabulary"
        first = captions[0] if len(captions) else None
        raise UserError(f"{name}: expected captions with words; got, for one, {first!r} ({error})") from error
    dimensions = min(DIMENSIONS, *counts.shape)
    if counts.shape[1] > 1:  # one word alone has no directions to choose from
        with np.errstate(invalid="ignore"):  # equal captions: its share of a variance of 0, which nobody reads
            counts = TruncatedSVD(dimensions, random_state=seed).fit_transform(counts)
    else:
        counts = counts.toarray()
    return np.asarray(normalize(counts), np.float32)


class SentenceEncoder:
    """A Sentence Transformers model. `spec`: `hf:<hub id or folder>`; `name`: the parameter that errors name."""

    def __init__(self, spec: str, *, device: str | None = None, name: str = "text") -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise UserError(
                f"{name}={spec!r} needs the package sentence-transformers: pip install 'kka[sentence]', "
                "or leave it out to compare captions by TF-IDF"
            ) from error
        try:
            self._model: Any = SentenceTransformer(
                spec.removeprefix("hf:"),
                device=device,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"{name}: expected hf:<hub id or folder> of a Sentence Transformers model with safetensors "
                f"weights; got {spec!r} ({error})"
            ) from error

    def __call__(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Vectors of length 1."""
        vectors = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)
