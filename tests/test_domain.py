"""What photos show, out of a caption."""

import pytest

from kka.data.domain import domain_of

FOUND = {
    "a grey photo of a magnetic tile": "magnetic tiles",
    "a photo of a machined bracket.": "machined brackets",
    "a close-up image of the glass bottle on a table": "glass bottles",
    "an aerial photo of a parking lot with many cars": "parking lots",
    "a macro shot of a circuit board, lit from above": "circuit boards",
    "photo of a piece of fabric": "pieces of fabric",
    "a photo of leaves": "leaves",
    "a bolt": "bolts",
    "a pair of 2 bolts": None,
    "ein Foto einer Schraube": None,
    "螺丝的照片": None,
    "": None,
}


@pytest.mark.parametrize("caption", FOUND)
def test_the_thing_of_a_caption_in_the_plural(caption: str) -> None:
    """The prompt said "a photo of images with a defect" to whoever had not thought of --domain."""
    assert domain_of(caption) == FOUND[caption]
