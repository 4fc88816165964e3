"""The words of defects: what is written is read back, and what people write beside it is understood."""

import math

import numpy as np
import pytest

from kka.defects.grammar import SUBJECT, compose, describe, values
from kka.defects.reading import read, thing
from kka.defects.vocabulary import FAMILIES, PHRASES, READ_TOO, plural

SUBJECTS = (
    SUBJECT, "a grey photo of a magnetic tile", "a rusty brown bracket with a hole", "hair comb",
    "an aerial image of a field", "a close-up of the printed face of a watch", "ein weißes Blatt",
)  # fmt: skip
"""Descriptions of photos; some have words of defects in them."""


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_sentence_is_read_as_it_was_meant(subject: str) -> None:
    """A language model would be led by words that the painter does not read, or reads otherwise."""
    rng = np.random.default_rng(len(subject))
    families = set()
    for _ in range(400):
        caption, said = compose(rng, subject)
        reading = read(caption, subject)
        assert reading.defects == said, caption
        assert reading.ignored == 0, caption
        families |= {defect.family for defect in said}
    assert len(families) > 20


def test_there_are_well_over_a_million_sentences() -> None:
    """A small language model would learn them by heart, and preference tuning would have nothing to choose from. A
    lower bound: one frame, one object, one defect in the singular, each attribute with one of its phrases or none."""
    sentences = 0
    for name, family in FAMILIES.items():
        said = [a for a in family.attributes if a not in ("number", "spread")]
        phrases = [1 + sum(len(PHRASES[a][v]) for v in values(name, a)) for a in said]
        sentences += len(family.nouns) * math.prod(phrases)
    assert sentences > 1e11
    assert len({describe(np.random.default_rng(i)) for i in range(500)}) > 490


def test_every_phrase_is_read_as_its_value() -> None:
    """A phrase that another one hides would be painted as that."""
    seen = 0
    for words in (PHRASES, READ_TOO):
        for attribute, meanings in words.items():
            for value, phrases in meanings.items():
                for phrase in phrases:
                    (defect,) = read(f"it is cracked, {phrase}").defects
                    assert defect.attributes == {attribute: value}, phrase
                    seen += 1
    for name, family in FAMILIES.items():
        for noun in family.nouns:
            (one,) = read(f"a {noun}").defects
            assert (one.family, one.attributes) == (name, {"number": "one"})
            (several,) = read(f"they found {plural(noun)} in it").defects
            assert (several.family, several.attributes) == (name, {"number": "several"})
        for word in (*family.masses, *family.states):
            assert [d.family for d in read(f"it is {word}").defects] == [name]
            seen += 1
    assert seen > 250


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("the tile is badly scratched, all over", [("scratch", {"strength": "obvious", "place": "everywhere"})]),
        ("a crack, long and thin, running diagonally",
         [("crack", {"number": "one", "size": "large", "width": "thin", "direction": "diagonal"})]),
        ("at the top left, a hole", [("hole", {"number": "one", "place": "top left"})]),
        ("a scratch on the left side of the large bracket", [("scratch", {"number": "one", "place": "left"})]),
        ("a black and white photo of a grey tile with some hairs", [("hair", {"number": "several"})]),
        ("two scratches, a small round hole and a long, thin, dark fibre in the middle",
         [("scratch", {"number": "two"}), ("hole", {"number": "one", "size": "small", "shape": "round"}),
          ("fiber", {"number": "one", "size": "large", "width": "thin", "color": "dark", "place": "center"})]),
        ("A faint GREY discolouration near the centre!",
         [("discoloration", {"strength": "faint", "color": "grey", "place": "center"})]),
        ("a hair comb that is dusty", [("speck", {})]),
        ("a hole with ragged edges", [("hole", {"number": "one", "edge": "ragged"})]),
        ("a stain with a soft border along one edge", [("stain", {"number": "one", "edge": "soft", "place": "edge"})]),
        ("a scratch close to the rim", [("scratch", {"number": "one", "place": "edge"})]),
        ("a dent centred on the comb", [("dent", {"number": "one", "place": "center"})]),
        ("no rust", []),
        ("a hair comb without scratches, dents or deep cracks at the top", []),
        ("a hair comb that is not cracked but dusty", [("speck", {})]),
        ("no scratches and a small hole", [("hole", {"number": "one", "size": "small"})]),
        ("free of dust, two dents on the left", [("dent", {"number": "two", "place": "left"})]),
        ("a crack, no dark rust, only a faint stain",
         [("crack", {"number": "one"}), ("stain", {"number": "one", "strength": "faint"})]),
    ],
)  # fmt: skip
def test_what_people_write(caption: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    """Words in another order than the grammar's would go to another defect, or to the object."""
    assert [(d.family, d.attributes) for d in read(caption, "a hair comb").defects] == expected


def test_unknown_words_are_counted() -> None:
    """A run could not say that its captions are not understood."""
    assert read("a flurble crack in the gizmo").ignored == 2
    assert read("eine Fliese mit einem Riss").defects == ()
    nothing = read("something dark at the top")
    assert (nothing.defects, dict(nothing.said)) == ((), {"color": "dark", "place": "top"})
    assert read("").ignored == 0


def test_the_object_is_what_the_photo_is_of() -> None:
    """ "there is a crack on a grey photo of a tile"."""
    assert thing("a grey photo of a magnetic tile") == "a magnetic tile"
    assert thing("magnetic tile") == "magnetic tile"
