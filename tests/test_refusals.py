"""Texts of a caption's length that describe no picture, and captions that must stay."""

import numpy as np
import pytest

from kka.algorithm.captions import write_captions
from kka.algorithm.prompts import TEMPLATES, instruction, worked_examples
from kka.algorithm.refusals import REASONS, reason_against
from kka.defects.grammar import describe
from kka.errors import UserError
from kka.garden.corpus import corpus
from language_fakes import ScriptedModel

REFUSED = {
    "The above sentence describes a normal one in another way": "talk",
    "A photo of a tile was described in the style of this one": "talk",
    "This phrase is a beautiful example of how much can be said": "talk",
    "defective_image_of_glass_drop.jpg with a hole in it": "talk",
    "Categories: weather and climate of the north": "talk",
    "Write the words for a tile with a crack": "talk",
    "a photo of the same thing with a scratch on it": "echo",
    "many cars are parked in the lot, many cars are parked in the lot, many cars are parked": "repetition",
    "a red red red flower on a green ground": "repetition",
    "a small, unassuming, and unassuming, and unassuming": "repetition",
    "these are just a few of the kinds of descriptions in a story": "talk",
    "blue, round, shiny, large": "no_thing",
}
KEPT = [
    "a grey photo of a magnetic tile with a hole just above its left corner",
    "this flower has white petals that are rounded, and a yellow center",
    "Buildings lined up neatly",
    "there are many cars parked in the parking lot, some of them white",
    "一朵红色的花，花瓣上有黑点",
    "この花は花びらが白くて、花びらの先がとがっていて、まんなかが黄色い花で、葉のまわりに黒い斑点がある花です",
    "ภาพถ่ายของแผ่นกระเบื้องสีเทาที่มีรอยร้าวยาวตรงกลางและมีรอยขีดข่วนเล็กน้อยที่มุมด้านซ้ายของแผ่นกระเบื้อง",
    "une photo d'une tuile grise avec une fissure à gauche et une fissure à droite, près du bord",
    "a bracket whose thread is worn",
    "a printed sign with the answer to a riddle, torn at its edge",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_describes_no_picture(text: str) -> None:
    """A picture of such a text shows anything: it would be judged, and the model led by it."""
    assert reason_against(text, instruction("defect")) == REFUSED[text]
    assert set(REFUSED.values()) == set(REASONS)


@pytest.mark.parametrize("text", KEPT)
def test_captions_stay(text: str) -> None:
    """A caption that is refused is one picture less, and of some data sets perhaps all."""
    assert all(reason_against(text, instruction(template)) is None for template in TEMPLATES)


def test_captions_of_our_own_grammars_stay() -> None:
    """The embedded world's models write these by the thousand: none may be lost."""
    rng = np.random.default_rng(0)
    texts = [caption for _, caption in corpus(300, 7)] + [describe(rng, "a photo of a bolt") for _ in range(300)]
    texts += [answer for template in TEMPLATES for _, answer in worked_examples(template)]
    assert {reason_against(text, instruction(template)) for text in texts for template in TEMPLATES} == {None}


def test_they_are_counted_by_reason() -> None:
    """What a model's answers were lost by is told, in the batch and in the error where too few are left."""
    answers = [*REFUSED, *KEPT]
    model = ScriptedModel(lambda prompt, k: answers[(k - 1) % len(answers)])
    batch = write_captions(model, ["p"], len(KEPT), seed=0, instruction=instruction("defect"))
    assert batch.refused["talk"] >= 6 and batch.refused["no_thing"] >= 1 and set(batch.refused) == set(REASONS)
    assert batch.unusable >= sum(batch.refused.values())
    with pytest.raises(UserError, match=r"unusable \(\d+ spoke of the task\)"):
        write_captions(ScriptedModel(lambda prompt, k: "The above is a caption of it"), ["p"], 4, seed=0)


def test_a_normal_in_other_words_of_its_own_is_a_copy() -> None:
    """"A photo of a magnetic grey tile" tells of no defect; of another kind of flower, fewer words are enough."""
    said = ["a photo of a grey tile, magnetic", "a grey tile photo", "a grey magnetic tile with a crack"]
    normals = ["a grey photo of a magnetic tile"]

    def kept(of_normals: bool) -> tuple[str, ...]:
        model = ScriptedModel(lambda prompt, k: said[(k - 1) % 3])
        return write_captions(model, ["p"], 3, seed=0, normals=normals, of_normals=of_normals, at_least=0.1).captions

    assert kept(of_normals=True) == ("a grey magnetic tile with a crack",)
    assert len(kept(of_normals=False)) == 3
