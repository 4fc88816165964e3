"""Language models of transformers (Eq. 3), on a tiny Llama with random weights."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from kka.errors import UserError
from kka.language.hf import HFLanguageModel
from kka.language.rng import own_randomness
from kka.settings.language import LanguageSettings
from language_fakes import CAPTIONS, save_tiny_model

PROMPTS = [f"Another flower: {CAPTIONS[0]}", f"Another flower: {CAPTIONS[1]} against a wall of old grey stones", "Hm"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("lm") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> HFLanguageModel:
    return HFLanguageModel(folder, settings=LanguageSettings(max_new_tokens=60, top_p=0.95), device="cpu")


def test_shape_and_equal_seeds(model: HFLanguageModel) -> None:
    """n answers to each prompt, in order; a resumed run must get the same texts, another round others."""
    first = model.sample(PROMPTS, 4, seed=1)
    assert [len(answers) for answers in first] == [4, 4, 4]
    assert model.sample(PROMPTS, 4, seed=1) == first
    assert model.sample(PROMPTS, 4, seed=2) != first
    assert len({text for answers in first for text in answers}) > 6


def test_global_random_state_is_neither_used_nor_changed(model: HFLanguageModel) -> None:
    """transformers draws from torch's global generator: texts must not depend on it, nor other stages on the texts."""
    torch.manual_seed(3)
    first = model.sample(PROMPTS, 2, seed=1)
    torch.manual_seed(4)
    np.random.seed(4)
    before = (torch.get_rng_state(), None, np.random.get_state()[1].copy())  # type: ignore[index]
    assert model.sample(PROMPTS, 2, seed=1) == first
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[2])  # type: ignore[index]


def test_own_randomness_gives_the_state_back() -> None:
    """A stage that seeds the global generators would change what runs after it. (Not tested through `sample`: the
    type checker of these tests itself draws from Python's generator when it looks into lists.)"""
    random.seed(4)
    before = random.getstate()
    with own_randomness(1, torch.device("cpu")):
        drawn = (random.random(), np.random.rand(), torch.rand(1).item())
    assert random.getstate() == before
    with own_randomness(1, torch.device("cpu")):
        assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())


def test_randomness_is_given_back_after_an_error() -> None:
    """An exception during sampling must not leave the global generators seeded."""
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), own_randomness(5, torch.device("cpu")):
        torch.rand(3)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def test_shared_prompt_cache_changes_nothing(model: HFLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prompt is read once for all its answers; with padding on the left, that must give what reading it for
    every answer gives, token by token."""
    ids = [model.encode(prompt) for prompt in PROMPTS]
    assert len({len(row) for row in ids}) > 1
    rows = [0, 0, 1, 1, 1, 2, 2]
    shared = model._generate(ids, rows, 7, 1.0, 1.0)
    monkeypatch.setattr(model, "_read_once", lambda *args: {})
    assert model._generate(ids, rows, 7, 1.0, 1.0) == shared


def test_sampling_follows_the_models_probabilities(folder: Path) -> None:
    """First tokens of 4,000 answers against the softmax of the logits, with neither top-k nor top-p: a left-over
    top-k of 50 (transformers' default), wrong padding or a wrong position would show."""
    model = HFLanguageModel(
        folder, settings=LanguageSettings(top_p=1.0, max_new_tokens=1, batch_size=4000), device="cpu"
    )
    ids = [model.encode(PROMPTS[0]), model.encode(PROMPTS[1])]
    drawn = [answer[0] for answer in model._generate(ids, [0] * 4000, 11, 1.0, 1.0)]
    logits = model.model(input_ids=torch.tensor([ids[0]])).logits[0, -1]
    expected = torch.softmax(logits, -1).detach().numpy()
    found = np.bincount(drawn, minlength=len(expected)) / 4000
    assert len(set(drawn)) > 60
    assert 0.5 * np.abs(found - expected).sum() < 0.12  # total variation; about 0.06 by chance


def test_tokens_are_counted_and_answers_end(model: HFLanguageModel) -> None:
    """The cost ledger counts what was written: no padding after the end, no prompt."""
    before = model.tokens_written
    ids = [model.encode(PROMPTS[0])]
    answers = model._generate(ids, [0] * 200, 3, 1.0, 1.0)
    assert model.tokens_written - before == sum(map(len, answers))
    ends = model._ends()
    assert len(ends) > 1
    assert all(answer[-1] in ends or len(answer) == 60 for answer in answers)
    assert not any(token in ends for answer in answers for token in answer[:-1])


def test_cut_off_answers_lose_their_last_line(model: HFLanguageModel) -> None:
    """Half a sentence is no caption; the whole lines before it are."""
    text = "this flower has three red petals\nthis flower has"
    ids = [t for t in model.tokenizer(text, add_special_tokens=False)["input_ids"] if t not in model._ends()]
    model_limit, model.max_new_tokens = model.max_new_tokens, len(ids)
    try:
        assert model.decode(ids) == "this flower has three red petals"
        assert model.decode([*ids[:-1], model.tokenizer.eos_token_id]).endswith("this flower")
    finally:
        model.max_new_tokens = model_limit


def test_batches_and_progress(folder: Path) -> None:
    """Answers beyond one batch are told apart rightly, and progress is reported up to the whole."""
    told: list[tuple[str, int, int]] = []
    model = HFLanguageModel(
        folder, settings=LanguageSettings(max_new_tokens=4, batch_size=5), device="cpu",
        progress=lambda *args: told.append(args),
    )
    assert [len(a) for a in model.sample(PROMPTS, 4, seed=0)] == [4, 4, 4]
    assert told == [("captions", 5, 12), ("captions", 10, 12), ("captions", 12, 12)]


@pytest.mark.parametrize(("parameters", "size"), [(3_000_000, 256), (135_000_000, 64), (4_000_000_000, 64)])
def test_large_models_answer_in_smaller_batches(
    folder: Path, monkeypatch: pytest.MonkeyPatch, parameters: int, size: int
) -> None:
    """By their size alone, not by this machine: equal seeds are to give equal texts everywhere."""
    told: list[tuple[str, int, int]] = []
    model = HFLanguageModel(
        folder, settings=LanguageSettings(max_new_tokens=1), device="cpu", progress=lambda *args: told.append(args)
    )
    monkeypatch.setattr(model.model, "num_parameters", lambda: parameters)
    model.sample(PROMPTS[:1], size + 1, seed=0)
    assert [done for _, done, _ in told] == [size, size + 1]


def test_chat_template_is_used_where_there_is_one(model: HFLanguageModel, tmp_path: Path) -> None:
    """A chat model wants its template; a plain one gets the text and a line break."""
    tokens = model.tokenizer.convert_ids_to_tokens(model.encode("Another flower: red"))
    assert tokens[0] == "<|prompt|>"
    assert tokens[-1] == "<|answer|>"
    plain = HFLanguageModel(
        save_tiny_model(tmp_path / "plain", chat=False), settings=LanguageSettings(max_new_tokens=4), device="cpu"
    )
    assert plain.tokenizer.decode(plain.encode("Another flower: red")).strip(" ").endswith("red\n")
    assert len(plain.sample(["Another flower: red"], 3, seed=0)[0]) == 3


def test_identity_follows_the_weights(folder: Path, tmp_path: Path) -> None:
    """Captions and adapters belong to weights: the same folder elsewhere is the same model, other weights are not."""
    other = save_tiny_model(tmp_path / "tiny", seed=1)
    again = save_tiny_model(tmp_path / "elsewhere" / "tiny")
    names = [HFLanguageModel(path, device="cpu").identity for path in (folder, again, other)]
    assert names[0] == names[1] != names[2]


def test_pickled_weights_are_never_loaded(folder: Path, tmp_path: Path) -> None:
    """A pytorch_model.bin can run code when loaded."""
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(UserError, match=r"lacks \*\.safetensors \(pickled weights are never loaded\)"):
        HFLanguageModel(tmp_path, device="cpu")


@pytest.mark.parametrize("source", ["./no such folder", "/no/such/folder", "~/no-such-folder-at-all"])
def test_missing_folder(source: str) -> None:
    """A mistyped path must not be taken for a hub id and end in a network error."""
    with pytest.raises(UserError, match="there is no folder"):
        HFLanguageModel(source, device="cpu")


def test_folder_without_a_model(tmp_path: Path) -> None:
    """The error names what is missing."""
    with pytest.raises(UserError, match=r"lacks config\.json and"):
        HFLanguageModel(tmp_path, device="cpu")


def test_broken_weights(folder: Path, tmp_path: Path) -> None:
    """A truncated download ends in an error that says what to do, not in a traceback of safetensors."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded"):
        HFLanguageModel(tmp_path, device="cpu")


def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network, an unknown hub id must say what was expected and what to do."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"Hugging Face hub .* check the spelling and the network"):
        HFLanguageModel("kka-tests/no-such-model", device="cpu")


@pytest.mark.parametrize("option", [{"temperature": 0.0}, {"top_p": 1.5}, {"batch_size": 0}, {"max_new_tokens": 0}])
def test_wrong_sampling_settings(folder: Path, option: dict[str, float]) -> None:
    """Said before anything is loaded."""
    with pytest.raises(UserError, match=f"expected language.{next(iter(option))} to be"):
        HFLanguageModel(folder, settings=LanguageSettings(**option))  # type: ignore[arg-type]


def test_a_local_model_needs_an_end(folder: Path) -> None:
    """No bound on the tokens is for servers, which have one of their own; no temperature means 1."""
    with pytest.raises(UserError, match=r"language.max_new_tokens: expected a number"):
        HFLanguageModel(folder, settings=LanguageSettings(max_new_tokens=None), device="cpu")
    plain, same = (
        HFLanguageModel(folder, settings=LanguageSettings(max_new_tokens=6, temperature=t, top_p=p), device="cpu")
        for t, p in ((None, None), (1.0, 1.0))
    )
    assert plain.sample(PROMPTS, 2, seed=1) == same.sample(PROMPTS, 2, seed=1)


def test_wrong_device_and_four_bits_without_gpu(folder: Path) -> None:
    """A device that is not there is named, with what is."""
    with pytest.raises(UserError, match="expected auto, cpu"):
        HFLanguageModel(folder, device="abacus")
    with pytest.raises(UserError, match="4-bit loading: expected a CUDA device"):
        HFLanguageModel(folder, settings=LanguageSettings(load_in_4bit=True), device="cpu")


@pytest.mark.gpu
def test_on_a_gpu(folder: Path) -> None:
    """bfloat16 on CUDA, equal texts for equal seeds."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = HFLanguageModel(folder, settings=LanguageSettings(max_new_tokens=8), device="cuda")
    assert model.model.dtype == torch.bfloat16
    assert model.sample(PROMPTS, 3, seed=1) == model.sample(PROMPTS, 3, seed=1)
