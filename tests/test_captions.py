"""Eq. 3's bookkeeping: parsing, cleaning, near-duplicates, and writing until there are enough."""

import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kka.algorithm.captions import NearDuplicates, clean, normalise, parse_answer, repeats_by_kind, write_captions
from kka.errors import UserError
from language_fakes import COLORS, ScriptedModel

A, B = "a red flower with five petals", "a blue flower with many petals"


@pytest.mark.parametrize(
    "answer",
    [
        f"{A}\n{B}",
        f"1. {A}\n2. {B}",
        f"1) {A}\n2) {B}",
        f"(1) {A}\n(2) {B}",
        f"- {A}\n- {B}",
        f"* {A}\n* {B}",
        f"• {A}\n\n• {B}",
        f"Sure! Here are two captions:\n\n1. {A}\n2. {B}\n\nLet me know if you need more!",
        f"Here are two descriptions:\n- **{A}**\n- **{B}**",
        f'1. "{A}"\n2. "{B}"',
        f"“{A}”\n“{B}”",
        f"Caption 1: {A}\nCaption 2: {B}",
        f"**Caption 1:** {A}\n**Caption 2:** {B}",
        f"<think>Perhaps\n1. a daisy?\n</think>\n{A}\n{B}",
        f"```\n{A}\n{B}\n```",
        f'["{A}", "{B}"]',
        f"# Captions\n\n> - {A}\n> - {B}\n---\n",
        "1. a red flower\n   with five petals\n2. a blue flower\n   with many petals",
        f"Certainly, here are the sentences you asked for:\n{A}\n{B}",
    ],
)
def test_answers_of_all_shapes(answer: str) -> None:
    """Chat models number, quote, mark up and chatter: each shape must give the same two captions."""
    assert parse_answer(answer) == [A, B]


def test_a_caption_that_opens_like_a_preamble_is_kept() -> None:
    """UCM's captions open with "Here is a piece of farmland": without a colon that is a caption."""
    assert parse_answer("Here is a piece of farmland .") == ["Here is a piece of farmland ."]
    assert parse_answer("Here is one: a red flower") == ["a red flower"]


def test_unfinished_thinking_gives_nothing() -> None:
    """A model cut off while it thinks has not answered; its thoughts are no captions."""
    assert parse_answer("<think>the user wants a flower") == []


def test_clean() -> None:
    """Captions come out on one line, unquoted, without a closing stop; what cannot be one gives None."""
    assert clean('  "A red\tflower , with  petals ."  ') == "A red flower, with petals"
    for bad in ("", "red", "two words", "I'm sorry, I cannot help with that", "a {caption} of a flower", "?? !! .."):
        assert clean(bad) is None
    assert clean("word " * 200) is None
    assert clean("a broken � flower text") is None


def test_normalise_ignores_case_articles_and_punctuation() -> None:
    """Texts that differ in these alone are one text for the split and the duplicates."""
    assert normalise("The Flower, a red one.") == normalise("flower a RED one") == "flower red one"


def test_near_duplicates() -> None:
    """An article more is the same caption; another color, or two colors exchanged, is another picture."""
    first = "this flower has five rounded red petals with a small white center against a green leafy background"
    known = NearDuplicates([first])
    assert known.find(first.upper() + ".")
    assert known.find(first.replace("with a small", "with small"))
    assert not known.find(first.replace("red", "blue"))
    assert not known.find(first.replace("red", "white", 1).replace("small white", "small red"))


def _jaccard(a: str, b: str) -> float:
    first, second = (set(pairwise(["^", *normalise(t).split(), "$"])) for t in (a, b))
    return len(first & second) / len(first | second)


@given(
    st.lists(st.lists(st.sampled_from(["red", "blue", "big", "five", "leaf"]), min_size=1, max_size=9), max_size=12),
    st.sampled_from([0.5, 0.7, 0.85, 1.0]),
)
def test_near_duplicates_equal_the_literal_search(texts: list[list[str]], similarity: float) -> None:
    """The index must find exactly what comparing with every earlier text finds."""
    index = NearDuplicates(similarity=similarity)
    earlier: list[str] = []
    for text in map(" ".join, texts):
        assert index.find(text) == any(_jaccard(text, other) >= similarity for other in earlier)
        index.add(text)
        earlier.append(text)


def test_near_duplicates_are_fast() -> None:
    """Some thousands of alike captions, within seconds: comparing them two by two takes over half a minute."""
    parts = (("this flower", "the bloom"), ("five", "six", "many"), COLORS, ("round", "long"), COLORS, COLORS, range(5))
    texts = [
        f"{a} has {b} {d} {c} petals with a {e} center and {g} stamens, and it grows by tree {f} on a green field"
        for a, b, c, d, e, g, f in product(*parts)
    ][:5000]
    start = time.process_time()
    index = NearDuplicates()
    for text in texts:
        if not index.find(text):
            index.add(text)
    assert time.process_time() - start < 4


def _numbered(prompt: str, k: int) -> str:
    return f"{prompt} number {k} seen by lamp {k * k} at night {k + 3}"


def test_captions_are_spread_evenly() -> None:
    """Each representative normal must have its share, with the prompt remembered for every caption (Eq. 7 needs it)."""
    batch = write_captions(ScriptedModel(_numbered), ["apple", "pear", "plum"], 10, seed=1)
    assert [batch.prompt_index.count(i) for i in range(3)] == [4, 3, 3]
    assert all(caption.startswith(prompt) for caption, prompt in zip(batch.captions, batch.prompts, strict=True))
    assert (batch.asked, len(batch.captions), batch.short) == (10, 10, False)
    assert batch.tokens == batch.answers * 10


def test_retries_fill_up_with_new_seeds() -> None:
    """Half the answers unusable: further attempts must use other seeds, or they would only repeat themselves."""
    model = ScriptedModel(lambda p, k: _numbered(p, k) if k % 2 else "no")
    batch = write_captions(model, ["apple", "pear"], 12, seed=1)
    assert len(batch.captions) == 12
    assert batch.unusable > 0
    seeds = [seed for _, _, seed in model.calls]
    assert len(set(seeds)) == len(seeds) > 1


def test_other_prompts_fill_in_for_a_barren_one() -> None:
    """One prompt that yields nothing must not keep the round from its number of captions."""
    model = ScriptedModel(lambda p, k: _numbered(p, k) if p == "apple" else "no")
    batch = write_captions(model, ["apple", "pear"], 8, seed=1)
    assert 4 <= len(batch.captions) <= 8
    assert set(batch.prompts) == {"apple"}


def test_known_captions_and_copies_of_normals_are_left_out() -> None:
    """A copy of a normal caption draws a normal picture: as an anomaly it would poison the pool."""
    texts = [_numbered("apple", 1), _numbered("apple", 2).upper() + ".", _numbered("apple", 3)]
    model = ScriptedModel(lambda p, k: texts[(k - 1) % 3])
    batch = write_captions(model, ["apple"], 2, seed=0, known=[texts[0]], normals=[texts[1].lower()], max_attempts=2)
    assert batch.captions == (texts[2],)
    assert batch.short
    assert batch.duplicates >= 1
    assert batch.copies_of_normals >= 1


def test_nothing_usable_shows_samples() -> None:
    """The user must see what the model wrote, or cannot tell a wrong template from a wrong model."""
    with pytest.raises(UserError, match=r"(?s)no usable captions where 5 were wanted.*'blah'"):
        write_captions(ScriptedModel(lambda p, k: "blah"), ["apple"], 5, seed=0, max_attempts=3)


def test_a_barren_model_is_not_asked_on() -> None:
    """A model that only refuses would be asked for thousands of answers, each of which may be paid for."""
    model = ScriptedModel(lambda p, k: "I must decline to describe such parts.")
    with pytest.raises(UserError, match=r"(?s)no usable captions where 40 were wanted.*must decline"):
        write_captions(model, ["apple", "pear"], 40, seed=0)
    assert sum(model.count.values()) == 40 + 160


def test_fewer_than_half_is_an_error_with_counts() -> None:
    """A run on a tenth of the anomalies asked for would pass as a real one."""
    model = ScriptedModel(lambda p, k: _numbered(p, k % 2))
    with pytest.raises(UserError, match=r"wrote 2 usable captions where 10 were wanted.*like earlier captions"):
        write_captions(model, ["apple"], 10, seed=0, max_attempts=3)


def test_attempts_are_bounded() -> None:
    """A model that only repeats itself must not hold the loop for ever."""
    model = ScriptedModel(lambda p, k: _numbered(p, k % 6))
    batch = write_captions(model, ["apple"], 10, seed=0, max_attempts=4)
    assert batch.short
    assert len(model.calls) == 4


def test_no_prompts_is_refused() -> None:
    """No representative normal, no prompt: an error here names the cause."""
    with pytest.raises(UserError, match="at least one prompt"):
        write_captions(ScriptedModel(_numbered), [], 3, seed=0)


class ThreeWords:
    """Writes class names, of which there are three."""

    def sample(self, prompts: Sequence[str], n: int, *, seed: int) -> list[list[str]]:
        return [[f"a photo of a {('bear', 'camel', 'clock')[(seed + k) % 3]}" for k in range(n)] for _ in prompts]


def test_a_caption_may_have_several_pictures() -> None:
    """Where class names are all there is, a caption serves several times, those of earlier rounds included."""
    known = ["a photo of a bear"] * 2
    batch = write_captions(ThreeWords(), ["p"], 10, seed=0, known=known, repeats=lambda text: 4)
    assert sorted(Counter(batch.captions).values()) == [2, 4, 4] and batch.captions.count("a photo of a bear") == 2
    with pytest.raises(UserError, match="wrote 3 usable captions where 10"):
        write_captions(ThreeWords(), ["p"], 10, seed=0)


def test_repeats_go_to_kinds_whose_captions_are_too_few() -> None:
    """Three kinds of 60 images: a share of 20. One has 2 texts (80 / 2), one near-duplicates of 1, one enough."""
    farmland = ["a piece of farmland", "there is a piece of farmland"]
    docks = ["boats at the docks", "The boats at the docks."]
    others = [f"a {colour} roof with {n} chimneys" for colour in ("red", "blue") for n in range(10)]
    found = repeats_by_kind({"farmland": farmland, "docks": docks, "roofs": others}, 60)
    assert found == {"piece of farmland": 40, "there is piece of farmland": 40, "boats at docks": 80}
    assert repeats_by_kind({"roofs": others}, 20) == {} == repeats_by_kind({}, 20)


class Lists(ScriptedModel):
    """Three captions an answer, of the kind that servers are asked for; counts what it reads, for 2 a token."""

    captions_an_answer = 3
    tokens_read, cost = 100, 200.0

    def sample(self, prompts: Sequence[str], n: int, *, seed: int) -> list[list[str]]:
        self.tokens_read += 7 * n * len(prompts)
        self.cost = 2.0 * self.tokens_read
        return super().sample(prompts, n, seed=seed)


def test_answers_of_several_captions() -> None:
    """Three an answer: a third of the answers is asked for, and an answer counts once however many captions it has."""
    numbers = [f"{a} and {b}" for a, b in product(("one", "two", "three", "four", "five", "six"), repeat=2)]

    def answer(prompt: str, k: int) -> str:
        of = [f"a {prompt} flower with {numbers[3 * k + i]} petals" for i in range(2)]
        return "\n".join(f"{i}. {text}" for i, text in enumerate([*of, of[0] if k == 2 else "no"], 1))

    model = Lists(answer)
    batch = write_captions(model, ["red", "blue"], 12, seed=0)
    assert [(prompts, n) for prompts, n, _ in model.calls] == [(["red", "blue"], 2), (["red", "blue"], 1)]
    assert (len(batch.captions), batch.prompts) == (12, ("red",) * 6 + ("blue",) * 6)
    assert (batch.answers, batch.unusable, batch.duplicates) == (6, 4, 2)  # "no" of four answers, of[0] of two
    assert (batch.tokens_read, batch.cost) == (7 * 6, 2 * 7 * 6)
    plain = write_captions(ScriptedModel(answer), ["red"], 4, seed=0)
    assert (plain.answers, plain.tokens_read, plain.cost) == (4, None, None)


def test_lists_without_captions_end_sooner() -> None:
    """As many captions in vain as of a model that writes one at a time."""
    model = Lists(lambda prompt, k: "no")
    with pytest.raises(UserError, match="wrote no usable captions where 300 were wanted: of 100 answers"):
        write_captions(model, ["red"], 300, seed=0)
