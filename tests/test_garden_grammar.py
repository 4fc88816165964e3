"""The garden's grammar: captions and what is read back from them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kka.garden.corpus import corpus
from kka.garden.grammar import compose, count_sentences, describe, parse
from kka.garden.vocabulary import ATTRIBUTES, PHRASES, Flower, fill


def _flower(seed: int, **fixed: str) -> Flower:
    return fill(fixed, np.random.default_rng(seed))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_parse_recovers_every_attribute_a_caption_names(seed: int, everything: bool) -> None:
    """A caption misread would be drawn as another flower than it says, and hardness blamed on the wrong words."""
    flower = _flower(seed)
    caption, said = compose(flower, np.random.default_rng(seed + 1), everything=everything)
    found, ignored = parse(caption)
    assert found == {a: getattr(flower, a) for a in said}
    assert ignored == 0


def test_every_value_can_be_said_and_read() -> None:
    """A value that no caption reaches could never be generated."""
    read: dict[str, set[str]] = {a: set() for a in ATTRIBUTES}
    rng = np.random.default_rng(0)
    for seed in range(1500):
        for attribute, value in parse(describe(_flower(seed), rng))[0].items():
            read[attribute].add(value)
    assert all(read[a] == set(PHRASES[a]) - {"none"} for a in ATTRIBUTES if a not in ("leaves",))
    assert read["leaves"] == set(PHRASES["leaves"])


def test_there_are_well_over_a_million_sentences() -> None:
    """With few sentences the language model would know them all by heart."""
    by_hand = math.prod([10, 8, 14, 7, 2, 3, 8, 6, 5, 6, 8, 5])
    assert count_sentences() == by_hand > 1_000_000


def test_sampled_captions_hardly_repeat() -> None:
    """The arithmetic above says what is possible; this says what is drawn."""
    rng = np.random.default_rng(3)
    assert len({describe(fill({}, rng), rng) for _ in range(2000)}) > 1995


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a pink flower", {"color": "pink"}),
        ("Petals that are pure white, with a tiny dark throat.", {
            "color": "white", "center_size": "small", "center_color": "dark", "center_kind": "throat"}),
        ("the bloom has yellow tips on red petals and orange stamens", {
            "second": "yellow", "pattern": "tips", "color": "red", "center_color": "orange", "center_kind": "stamens"}),
        ("five purple and white petals", {"number": "five", "color": "purple", "second": "white"}),
        ("a yellow centre and blue petals against brown soil", {
            "center_color": "yellow", "color": "blue", "background": "soil"}),
        ("three blooms together in red", {"arrangement": "trio", "color": "red"}),
        ("red blue green petals and petals that are pink", {"color": "red", "second": "blue"}),
    ],
)  # fmt: skip
def test_free_word_order_is_read(caption: str, expected: dict[str, str]) -> None:
    """A language model orders words in its own way: adjectives before or after their noun, centre first, twice said."""
    assert parse(caption)[0] == expected


def test_unknown_words_are_counted_and_change_nothing() -> None:
    """Words outside the grammar must be seen in the ledger, not silently lost."""
    plain, none = parse("this flower has five pink petals")
    noisy, three = parse("this exquisite flower has five quantum pink petals, truly")
    assert plain == noisy == {"number": "five", "color": "pink"}
    assert (none, three) == (0, 3)


@given(st.text(max_size=200))
def test_any_text_can_be_read_and_filled(text: str) -> None:
    """An odd answer of a language model must not end a run."""
    found, ignored = parse(text)
    assert ignored >= 0
    fill(found, np.random.default_rng(0))


@pytest.mark.parametrize(
    "caption",
    ["a flower with yellow tips and yellow petals", "white edges on white petals", "a pink base and petals in pink"],
)
def test_one_color_named_twice_is_one_color(caption: str) -> None:
    """Such a caption of a language model ended its run, and every run that took it up again."""
    flower = fill(parse(caption)[0], np.random.default_rng(0))
    assert flower.color in caption and (flower.second, flower.pattern) == ("none", "plain")


def test_any_words_of_the_garden_make_a_flower() -> None:
    """A language model puts the garden's own words in any order and number: none may end a run."""
    phrases = sorted({phrase for values in PHRASES.values() for options in values.values() for phrase in options})
    words = [*phrases, "petals", "center", "tips", "edges", "base", "flower", "with", "and", "of", "that are", ","]
    rng = np.random.default_rng(0)
    for _ in range(5_000):
        caption = " ".join(rng.choice(words, int(rng.integers(1, 12))))
        flower = fill(parse(caption)[0], rng)
        assert flower.second != flower.color, caption
        assert (flower.second == "none") == (flower.pattern == "plain"), caption


def test_fill_keeps_what_is_said_and_varies_the_rest() -> None:
    """A caption's own words must survive; what it leaves open comes from the seed."""
    said = {"color": "blue", "second": "white", "number": "six"}
    flowers = [_flower(i, **said) for i in range(50)]
    assert all((f.color, f.second, f.number) == ("blue", "white", "six") for f in flowers)
    assert all(f.pattern != "plain" for f in flowers)
    assert len({f.background for f in flowers}) > 4
    assert flowers[7] == _flower(7, **said)


def test_a_flower_refuses_what_is_not_in_the_garden() -> None:
    """A misspelt value would otherwise fail far away, in the renderer."""
    parts = vars(_flower(0))
    with pytest.raises(ValueError, match="color: expected one of white"):
        Flower(**{**parts, "color": "chartreuse"})
    with pytest.raises(ValueError, match="goes with second"):
        Flower(**{**parts, "pattern": "tips", "second": "none"})


def test_corpus_is_broad_repeatable_and_grouped() -> None:
    """The language model learns from it: it must span the garden, and one group must be one species."""
    pairs = corpus(1200, 5)
    assert pairs == corpus(1200, 5) != corpus(1200, 6)
    assert len(pairs) == 1200
    lengths = [len(caption.split()) for _, caption in pairs]
    assert np.percentile(lengths, 15) >= 15 and np.percentile(lengths, 90) <= 38
    groups: dict[str, set[str]] = {}
    colors: set[str] = set()
    for group, caption in pairs:
        found = parse(caption)[0]
        if "color" in found:
            groups.setdefault(group, set()).add(found["color"])
            colors.add(found["color"])
    assert all(len(seen) == 1 for seen in groups.values())
    assert colors == set(PHRASES["color"])
