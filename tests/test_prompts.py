"""The prompt: the paper's wording, templates of one's own, and what is refused."""

import pytest

from kka.algorithm.prompts import (
    IDEAS_EACH,
    TEMPLATES,
    build_prompt,
    draw_ideas,
    instruction,
    prompts_for,
    resolve_template,
    worked_examples,
)
from kka.errors import UserError


def test_default_is_the_papers_wording() -> None:
    """A changed default would no longer be the published prompt, nor the one the shipped model was trained on."""
    prompt = build_prompt("a pink flower with five petals", domain="flowers")
    assert prompt.startswith("Generate descriptions of different flowers")
    assert "should follow the exact structure and style of the example below:" in prompt
    assert prompt.endswith(": a pink flower with five petals")


def test_named_and_own_templates() -> None:
    """A template is taken by name or as it stands; the caption lands where it is asked for."""
    assert "defect" in build_prompt("a photo of a machined bracket", domain="brackets", template="defect")
    assert build_prompt("a cup", domain="cups", template="{domain}, not like {caption}!") == "cups, not like a cup!"
    assert set(TEMPLATES) == {"style", "defect"}
    assert all("{caption}" in resolve_template(name) for name in TEMPLATES)


def test_braces_in_captions_stay() -> None:
    """Captions are data: one with {domain} or stray braces must neither be filled in nor raise."""
    assert build_prompt("a {domain} {x} {", domain="cups", template="like {caption}") == "like a {domain} {x} {"


def test_white_space_is_single() -> None:
    """A caption with line breaks would break the prompt's shape."""
    assert build_prompt(" a\n red  cup ", domain="cups", template="like {caption}") == "like a red cup"


def test_template_without_caption_is_refused() -> None:
    """Without the caption, every prompt would be the same and the normals would have no say."""
    with pytest.raises(UserError, match=r"contains \{caption\}.*got 'draw a cup'"):
        build_prompt("a cup", domain="cups", template="draw a cup")


def test_empty_caption_is_refused() -> None:
    """An empty caption means a normal without a description: better said than prompted."""
    with pytest.raises(UserError, match="expected the caption"):
        build_prompt("  ", domain="cups")


def test_ideas_tell_prompts_of_one_caption_apart() -> None:
    """Photos that share a caption gave one prompt, and Eq. 7 compares within a prompt: it had but one to compare in."""
    asked = {"domain": "tiles", "template": "defect"}
    first, again, other = (prompts_for("a photo of a tile", **asked, seed=seed) for seed in (0, 0, 1))
    assert first == again and len({*first, *other}) == 2 * IDEAS_EACH
    assert all("Normal photo of tiles: a photo of a tile\n" in prompt and "{" not in prompt for prompt in first)
    assert prompts_for("a red flower", domain="flowers", template=None, seed=3) == [
        build_prompt("a red flower", domain="flowers")
    ]


def test_ideas_are_different_and_say_different_things() -> None:
    """An idea that always said everything would leave the model nothing to imagine."""
    ideas = draw_ideas(200, seed=0)
    assert len(set(ideas)) == 200 and all(idea.startswith("a ") for idea in ideas)
    assert 0.1 < sum("defect" in idea for idea in ideas) / 200 < 0.5
    assert any(" at the " not in idea and " in " not in idea and " on " not in idea for idea in ideas)
    assert len(draw_ideas(10_000, seed=0)) < 10_000, "there are so many and no more: it ends"


@pytest.mark.parametrize("template", TEMPLATES)
def test_worked_examples_are_of_the_template_and_of_something_else(template: str) -> None:
    """A chat model takes their form: it has to be that of the prompt."""
    words = instruction(template).splitlines()
    for prompt, answer in worked_examples(template):
        assert all(part in prompt for part in words) and answer not in prompt
    assert worked_examples("my own: {caption}") == [] and len(worked_examples(None)) == 2
