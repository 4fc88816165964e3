"""Captions as vectors."""

import builtins
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kka.common.texts import DIMENSIONS, embed_texts
from kka.errors import UserError

CAPTIONS = ["a red flower", "a red flower with petals", "a blue boat", "a blue boat on water", "a red flower"]


def test_tfidf_knows_what_is_alike() -> None:
    """Unit vectors; equal captions equal, like ones nearer than unlike ones."""
    vectors = embed_texts(CAPTIONS)
    assert vectors.dtype == np.float32 and len(vectors) == 5
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    alike = vectors @ vectors.T
    assert alike[0, 4] == pytest.approx(1, abs=1e-6)
    assert alike[0, 1] > alike[0, 2] + 0.2 and alike[2, 3] > alike[1, 3] + 0.2


def test_with_every_direction_kept_the_cosines_are_those_of_tfidf() -> None:
    """An SVD of the wrong side, or one that is centred, would change what is alike."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    plain = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(CAPTIONS).toarray()
    vectors = embed_texts(CAPTIONS)
    np.testing.assert_allclose(vectors @ vectors.T, plain @ plain.T, atol=1e-5)


def test_equal_seeds_and_the_global_state() -> None:
    """The SVD is a randomised one: by its own seed, and not by NumPy's global one."""
    rng = np.random.default_rng(0)
    many = [" ".join(f"w{i}" for i in rng.integers(0, 500, 12)) for _ in range(400)]
    np.random.seed(3)
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    first = embed_texts(many, seed=1)
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]
    assert first.shape == (400, DIMENSIONS)
    assert (first == embed_texts(many, seed=1)).all()
    assert (first != embed_texts(many, seed=2)).any()


@pytest.mark.parametrize("captions", [["red"], ["red"] * 4, ["a b red"] * 3, ["red flower"], ["red", "a", "red"]])
def test_captions_that_hardly_differ(captions: list[str]) -> None:
    """One word, one caption, equal captions, one without a word: finite, and no warning of a variance of 0."""
    vectors = embed_texts(captions)
    assert len(vectors) == len(captions) and np.isfinite(vectors).all() and (vectors[0] != 0).any()


def test_errors_say_what_was_expected() -> None:
    """Captions without words, and an unknown encoder."""
    with pytest.raises(UserError, match=r"text: expected captions with words; got, for one, '\?!'"):
        embed_texts(["?!", ""])
    with pytest.raises(UserError, match="text: expected captions with words"):
        embed_texts([])
    for wrong in ("bert", "hf:", ""):
        with pytest.raises(UserError, match=f"caption_text: expected tfidf or hf:.*got '{wrong}'"):
            embed_texts(CAPTIONS, wrong, name="caption_text")


def test_the_optional_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sentence-transformers, its name and the way to it instead of a traceback."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "sentence_transformers":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"text='hf:x' needs the package sentence-transformers: pip install"):
        embed_texts(CAPTIONS, "hf:x")


def test_sentence_embeddings_of_a_folder(tmp_path: Path) -> None:
    """hf:FOLDER would fall back to TF-IDF in silence, or vectors would come without length 1."""
    pytest.importorskip("sentence_transformers", reason="the optional package sentence-transformers is absent")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "flower", "boat"]
    BertTokenizerFast(vocab={name: i for i, name in enumerate(names)}).save_pretrained(tmp_path)
    with torch.random.fork_rng():
        network = BertModel(
            BertConfig(vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
        )
    network.save_pretrained(tmp_path)
    vectors = embed_texts(["red flower", "blue boat", "red flower"], f"hf:{tmp_path}", device="cpu")
    assert vectors.shape == (3, 16) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)
    with pytest.raises(UserError, match=r"text: expected hf:.*got 'hf:.*nothing-here'"):
        embed_texts(CAPTIONS, f"hf:{tmp_path}/nothing-here")


def test_import_is_light() -> None:
    """The libraries wait until a caption is embedded."""
    code = "import sys, kka.common.texts; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "sklearn", "transformers", "sentence_transformers"}
    assert not heavy & {name.partition(".")[0] for name in result.stdout.split()}
