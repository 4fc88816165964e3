"""The shipped language model of defects: the blank for the object, what it writes, that it can be led."""

from pathlib import Path

import numpy as np
import pytest

from fakes import small_task
from kka.algorithm.captions import write_captions
from kka.algorithm.prompts import LIKE_HARD, STYLE, build_prompt
from kka.config import RunConfig
from kka.defects.blanks import PHOTO, THING, Blanks, subject_in
from kka.defects.grammar import SUBJECT, describe
from kka.defects.reading import read
from kka.defects.vocabulary import FAMILIES
from kka.errors import UserError
from kka.language import DEFECTS_LM, build_language_model
from kka.language.defects import RATE, DefectsLanguageModel
from kka.language.hf import HFLanguageModel
from kka.language.train_defects import blank_caption, train_defects_model
from kka.protocols import PreferencePair
from kka.run.models import build_language
from kka.settings.language import LanguageSettings

TILE = "a grey photo of a magnetic tile"
SUBJECTS = (
    TILE, "an aerial photo of a harbour", "a hair comb", "ein graues Foto einer Fliese", "磁砖的照片",
    '  "A photo of a\n machined  bracket." ', "a photo of a flibbertigibbet THING",
    "this flower has yellow petals and a round center", SUBJECT,
)  # fmt: skip


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_is_filled_is_emptied_again(subject: str) -> None:
    """Tuning would teach the model the letters of an object instead of what is wrong with it."""
    blanks, rng = Blanks.of(subject), np.random.default_rng(0)
    seen = 0
    for _ in range(200):
        prompt, text = blank_caption(rng)
        if prompt == blanks.prompt:
            caption = blanks.fill(text)
            assert (blanks.photo in caption or blanks.thing in caption) and blanks.empty(caption) == text
            seen += 1
    assert seen > 60


def test_the_blanks_of_a_description() -> None:
    """The photo and the thing on it, as the person says them; sentences are no names of things."""
    assert Blanks.of(TILE) == Blanks(TILE, "a magnetic tile")
    assert Blanks.of("") == Blanks(SUBJECT, SUBJECT)
    assert Blanks.of(" 'a photo of a tile.' ") == Blanks("a photo of a tile", "a tile")
    assert Blanks.of("this flower has red petals").thing == "the object"
    assert [Blanks.of(text).prompt for text in (TILE, "hair comb")] == [PHOTO, THING]
    assert Blanks.of(TILE).empty("something else altogether") == "something else altogether"
    assert Blanks.of("a hair").empty("there are two hairs and a hair on a hair").endswith(" and a hair on THING")


def test_which_object_a_prompt_is_about() -> None:
    """Captions of one photo's object, written to the prompt of another."""
    both = (TILE, "a photo of a tile", "a red rose")
    for template in ("defect", STYLE, LIKE_HARD, "Say what is wrong with {caption}!"):
        for subject in both:
            assert subject_in(build_prompt(subject, domain="things", template=template), both) == subject
        hard = build_prompt("a magnetic tile that has a faint crack", domain="things", template=template)
        assert subject_in(hard, both) == TILE and subject_in(hard, ("x",)) == "x"
    for template in ("defect", "style"):
        assert subject_in(build_prompt(TILE, domain="tiles", template=template), ()) == TILE
    assert subject_in("Write something.", ()) == SUBJECT and subject_in("Write something.", both) == TILE


def test_a_run_names_its_objects() -> None:
    """The captions of the task reach the model, whatever the template of the prompt says around them."""
    model = build_language("defects", RunConfig(prompt="Say what is wrong with {caption}!"), task := small_task())
    assert isinstance(model, DefectsLanguageModel) and model.subjects == tuple(dict.fromkeys(task.captions))
    with pytest.raises(UserError, match="'defects' takes no argument"):
        build_language_model("defects:x")


@pytest.fixture(scope="module")
def model() -> DefectsLanguageModel:
    built = build_language_model("defects", device="cpu", subjects=(TILE,))
    assert isinstance(built, DefectsLanguageModel)
    return built


def test_the_shipped_model_writes_what_paint_reads(model: DefectsLanguageModel) -> None:
    """Small; nearly every caption names a defect of the person's object and is like no other; all kinds come up."""
    assert sum(file.stat().st_size for file in DEFECTS_LM.iterdir()) < 3_000_000
    prompts = [build_prompt(TILE, domain="tiles", template="defect", idea=f"a {kind}") for kind in ("hole", "dent")]
    batch = write_captions(model, prompts, 300, seed=0, normals=[TILE], of_normals=True)
    assert batch.answers < 340 and not sum(batch.refused.values())
    readings = [read(caption, TILE) for caption in batch.captions]
    assert np.mean([bool(r.defects) and not r.ignored for r in readings]) > 0.95
    assert np.mean(["magnetic tile" in caption for caption in batch.captions]) > 0.99
    assert len({defect.family for r in readings for defect in r.defects}) >= len(FAMILIES) - 3
    rng = np.random.default_rng(1)
    grammar = [read(describe(rng, TILE), TILE) for _ in range(300)]
    for attribute, value in (("strength", "faint"), ("size", "huge"), ("place", "edge"), ("number", "two")):
        share, usual = (
            np.mean([any(d.attributes.get(attribute) == value for d in r.defects) for r in each])
            for each in (readings, grammar)
        )
        assert abs(share - usual) < 0.1, (attribute, value)


@pytest.mark.parametrize("subject", ["ein graues Foto einer Fliese", "磁砖的照片", "a photo of a flibbertigibbet", ""])
def test_any_object_in_any_language(subject: str, model: DefectsLanguageModel) -> None:
    """A description is used as it is, letter by letter; without one captions speak of an object."""
    other = DefectsLanguageModel(DEFECTS_LM, subjects=(subject,), device="cpu")
    name = Blanks.of(subject).thing
    batch = write_captions(other, [f"Something else than {name}"], 24, seed=0, normals=[subject or SUBJECT])
    assert sum(name in caption for caption in batch.captions) >= 23
    assert sum(bool(read(caption, subject).defects) for caption in batch.captions) >= 23


@pytest.mark.slow
def test_preferences_lead_it() -> None:
    """Without words to lead, rounds of tuning would change nothing: one tuning with the default steps."""
    model = DefectsLanguageModel(DEFECTS_LM, subjects=(TILE,), device="cpu")
    prompt = build_prompt(TILE, domain="tiles", template="defect")
    captions = model.sample([prompt], 300, seed=0)[0]

    def faint(caption: str) -> bool:
        return any(d.attributes.get("strength") in ("faint", "slight") for d in read(caption, TILE).defects)

    hard = [caption for caption in captions if faint(caption)]
    easy = [caption for caption in captions if not faint(caption)]
    pairs = [PreferencePair(prompt=prompt, hard=a, easy=b) for a, b in zip(hard, easy, strict=False)]
    model.tune(pairs, [], seed=0)
    fresh = model.sample([prompt], 200, seed=1)[0]
    assert np.mean(list(map(faint, fresh))) > 1.3 * len(hard) / len(captions)
    assert len(set(fresh)) > 180 and sum(bool(read(caption, TILE).defects) for caption in fresh) > 190


def test_it_is_trained_by_one_command(tmp_path: Path) -> None:
    """The shipped model must be rebuilt by its command: equal seeds, equal weights; any word is a token."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        report = train_defects_model(
            tmp_path / name, layers=1, hidden=16, heads=2, steps=2, batch=4, spelling=2000, seed=seed
        )
    assert (report.steps, report.captions, report.kinds) == (2, 8, 26) and report.complete
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]
    tokenizer = HFLanguageModel(DEFECTS_LM, device="cpu").tokenizer
    sentence = f"a close view of {THING} with numerous hair-thin oxidized fibers"
    assert len(tokenizer(sentence)["input_ids"]) <= len(sentence.split()) + 3
    with pytest.raises(UserError, match="new folder, or one with a model to replace"):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos/1.jpg").touch()
        train_defects_model(tmp_path / "photos", steps=1)


def test_its_settings_are_those_of_a_model_that_runs_here(model: DefectsLanguageModel) -> None:
    """`--language.dpo-steps` and its like reach the model inside."""
    settings = LanguageSettings(dpo_steps=7, temperature=0.5, dpo_learning_rate=2e-3)
    assert DefectsLanguageModel(DEFECTS_LM, settings=settings, device="cpu").written.settings == settings
    assert model.identity == model.written.identity and model.settings.dpo_learning_rate == RATE
