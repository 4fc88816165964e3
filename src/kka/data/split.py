"""Which classes are normal, and which anomaly classes the models may know.

`unseen` withholds a share of the anomaly classes from language model and image library, so that detection can be
reported for anomalies that no part of the system has met. The choice of a class depends on its name and the seed.
"""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from kka.errors import UserError
from kka.seeding import derive_seed

LISTED = 30
"""An error lists at most this many classes."""


def fold(name: object) -> str:
    """The form in which names are compared: "Vehicles_1" is "vehicles 1"."""
    return " ".join(str(name).casefold().replace("_", " ").split())


def choose_normal(
    normal: Sequence[str], aliases: Mapping[str, Iterable[str]], *, shown: Sequence[str], of: str = "normal"
) -> set[str]:
    """The classes that `normal` names. `aliases`: folded name -> classes; `shown`: the classes as errors list them.
    `of`: the option that names them, as errors call it.

    Raises UserError for no name and for an unknown one, with near matches and the known classes.
    """
    listed = ", ".join(shown[:LISTED]) + (f", … ({len(shown)} in all)" if len(shown) > LISTED else "")
    if not normal:
        raise UserError(f"normal: expected the class or classes that are normal; got none. Known: {listed}")
    chosen: set[str] = set()
    for name in normal:
        if fold(name) not in aliases:
            near = difflib.get_close_matches(fold(name), aliases, n=3)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UserError(f"{of}: no class is called {name!r}.{hint} Known: {listed}")
        chosen.update(aliases[fold(name)])
    return chosen


def withhold(classes: Iterable[str], share: float, seed: int) -> tuple[str, ...]:
    """The `share` of `classes`, rounded half up, that nothing may know; sorted, and independent of their order."""
    if not 0 <= share <= 1:
        raise UserError(f"unseen: expected a share of the anomaly classes from 0 to 1; got {share}")
    ranked = sorted(set(classes), key=lambda name: (derive_seed(seed, "unseen", name), name))
    return tuple(sorted(ranked[: math.floor(share * len(ranked) + 0.5)]))


def choose_caption(captions: Sequence[str], seed: int, path: str) -> str:
    """One of an image's captions. The choice depends on the seed and the image's path alone."""
    if len(captions) == 1:
        return captions[0]
    return captions[derive_seed(seed, "caption", path) % len(captions)]


def seen_mask(kinds: Sequence[str], normal: Iterable[str], known: Iterable[str]) -> np.ndarray:
    """(n,) bool: True for images of normal classes and of anomaly classes that the models may know."""
    return np.isin(np.array(kinds, dtype=str), sorted({*normal, *known}))
