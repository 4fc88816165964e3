"""Greedy retrieval by TF-IDF over words and word pairs, as the formula says, one number at a time.

idf(t) = ln((1 + N) / (1 + df(t))) + 1 over the N distinct captions; a vector is count * idf, divided by its length.
"""

import math
import re
from itertools import pairwise


def terms(caption: str) -> list[str]:
    words = re.findall(r"\b\w\w+\b", caption.lower())
    return words + [f"{a} {b}" for a, b in pairwise(words)]


def vector(caption: str, corpus: list[str]) -> dict[str, float]:
    weights = {}
    for term in terms(caption):
        df = sum(term in terms(other) for other in corpus)
        if df:
            weights[term] = weights.get(term, 0.0) + math.log((1 + len(corpus)) / (1 + df)) + 1
    length = math.sqrt(sum(w * w for w in weights.values())) or 1.0
    return {term: w / length for term, w in weights.items()}


def similarities(caption: str, library: list[list[str]]) -> list[float]:
    """The largest cosine between `caption` and any caption of each picture."""
    corpus = sorted({text for texts in library for text in texts})
    asked = vector(caption, corpus)
    return [
        max(sum(asked.get(t, 0.0) * w for t, w in vector(text, corpus).items()) for text in texts) for texts in library
    ]
