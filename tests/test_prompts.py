"""The prompt: the paper's wording, templates of one's own, and what is refused."""

import pytest

from kka.algorithm.prompts import TEMPLATES, build_prompt, resolve_template
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
