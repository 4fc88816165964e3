"""Language models by spec, and the shipped one."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fakes import small_task
from kka.algorithm.captions import write_captions
from kka.algorithm.prompts import build_prompt
from kka.config import RunConfig
from kka.errors import UserError
from kka.language import GARDEN_LM, LANGUAGE_MODELS, build_language_model
from kka.protocols import TunableLanguageModel
from kka.run.models import build_language
from kka.settings.language import LanguageSettings
from language_fakes import save_tiny_model


def test_known_specs(tmp_path: Path) -> None:
    """Each name of the registry builds its model, options included."""
    assert set(LANGUAGE_MODELS) == {"hf", "gguf", "smollm2", "openai", "garden", "defects"}
    settings = LanguageSettings(dpo_learning_rate=3e-4)
    model = build_language_model(f"hf:{save_tiny_model(tmp_path / 'a b: c')}", device="cpu", settings=settings)
    assert model.settings.dpo_learning_rate == 3e-4  # type: ignore[attr-defined]
    remote = build_language_model("openai:gpt-x", base_url="http://127.0.0.1:1/v1")
    assert remote.model == "gpt-x"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gpt", "unknown language model: expected one of defects, garden, gguf:…, hf:…, openai:…, smollm2, or "
         "your own class as package.module:Class; got 'gpt'"),
        ("hf", "expected hf:<hub id or folder>"),
        ("openai:", "expected openai:<model name>"),
        ("garden:x", "'garden' takes no argument"),
    ],
)
def test_wrong_specs(spec: str, message: str) -> None:
    """The error lists what there is."""
    with pytest.raises(UserError, match=message):
        build_language_model(spec)


def test_unknown_option(tmp_path: Path) -> None:
    """A mistyped option is named, not ignored."""
    with pytest.raises(UserError, match=r"option of language model openai: expected one of api_key, .*; got 'heat'"):
        build_language_model("openai:x", base_url="http://127.0.0.1:1", heat=3)


def test_importing_the_wing_is_cheap() -> None:
    """`kka --help` lists specs: that must not import torch, transformers or trl."""
    code = "import sys, kka.language; assert not {'torch', 'transformers', 'trl', 'peft'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_shipped_model_writes_garden_captions() -> None:
    """The embedded world's model: small, real, and nearly every caption of it lies within the grammar."""
    from kka.garden.corpus import corpus
    from kka.garden.reading import parse

    assert sum(file.stat().st_size for file in GARDEN_LM.iterdir()) < 8_000_000
    model = build_language_model("garden", device="cpu")
    assert isinstance(model, TunableLanguageModel)
    normals = [caption for _, caption in corpus(40, 12345)]
    prompts = [build_prompt(caption, domain="flowers") for caption in normals[:4]]
    batch = write_captions(model, prompts, 60, seed=0, normals=normals)
    read = [parse(caption) for caption in batch.captions]
    assert sum(ignored == 0 for _, ignored in read) >= 57
    assert min(len(attributes) for attributes, _ in read) >= 2
    assert batch.answers < 80


PRICES = {"price_in": 1.0, "price_out": 2.0}
SERVERS = {"captions_an_answer": 5, "parallel": 2, "timeout": 9.0, "batch": True, **PRICES}
REMOTE = {"temperature": 0.5, "top_p": 0.5, "max_new_tokens": 5, **SERVERS}
LOCAL = {
    "batch_size": 8, "precision": "fp32", "memory": 4.0,
    "load_in_4bit": True, "trust_remote_code": True, "dpo_beta": 0.2, "dpo_max_kl": 1.0,
    "dpo_steps": 7, "dpo_max_epochs": 2,
    "dpo_batch": 4, "dpo_micro_batch": 4, "dpo_learning_rate": 1e-4, "dpo_warmup": 0.5,
    "lora_rank": 4, "lora_alpha": 4, "lora_dropout": 0.5, "lora_targets": "q_proj",
}  # fmt: skip


@pytest.mark.parametrize("option", sorted({*(REMOTE | LOCAL)}))
def test_a_remote_model_refuses_what_it_does_not_have(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that is silently left aside is taken to have worked."""
    assert {*REMOTE, *LOCAL, "set"} == {field.name for field in dataclasses.fields(LanguageSettings)}
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    given: Any = PRICES if option in PRICES else {option: (REMOTE | LOCAL)[option]}
    config = RunConfig(language=LanguageSettings(**given))
    if option in REMOTE:
        build_language("openai:any", config, small_task())
    else:
        known = ", ".join(f"language.{name}" for name in sorted(REMOTE))
        with pytest.raises(UserError, match=rf"language\.{option}: openai:any has only {known}; got"):
            build_language("openai:any", config, small_task())
