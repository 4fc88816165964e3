"""A language model of one's own needs `sample`. This one puts words together; yours may ask any program or server.

From the folder that this file lies in:

    kka run --lm own_language_model:Templates --language.set things=tulip,lily --steer examples --out runs/words

With `tune`, `save` and `restore` (`kka.protocols.TunableLanguageModel`) it is tuned by Eq. 7 as well.
"""

from collections.abc import Sequence

import numpy as np

COLOURS = ("red", "white", "yellow", "purple", "blue", "orange", "pink", "black")
SHAPES = ("round", "pointed", "ruffled", "narrow", "broad", "folded", "torn", "spotted")


class Templates:
    """Captions such as "a red flower with five torn petals"."""

    def __init__(self, *, things: tuple[str, ...] = ("flower",)) -> None:
        """--language.set things=tulip,lily gives it, as the annotation says: a tuple of texts."""
        self.things = things
        self.identity = f"templates-1 {' '.join(things)}"  # another one whenever its captions would be others

    def sample(self, prompts: Sequence[str], n: int, *, seed: int) -> list[list[str]]:
        """`n` answers to each prompt; the same seed gives the same ones. kka reads captions out of raw answers: lists,
        quotes and talk around them are taken away, and what stands there twice is used once."""
        rng = np.random.default_rng(seed)

        def caption() -> str:
            return (
                f"a {rng.choice(COLOURS)} {rng.choice(self.things)} with {rng.integers(3, 9)} {rng.choice(SHAPES)} "
                f"petals and a {rng.choice(COLOURS)} center"
            )

        return [[caption() for _ in range(n)] for _ in prompts]


if __name__ == "__main__":
    for answer in Templates().sample(["Write a caption."], 5, seed=0)[0]:
        print(answer)
