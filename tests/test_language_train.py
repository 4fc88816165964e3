"""`kka lm train` in small: the folder it writes, what it learns, equal seeds, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kka.algorithm.prompts import build_prompt
from kka.errors import UserError
from kka.language.examples import Pairs, collate, train_tokenizer
from kka.language.hf import HFLanguageModel
from kka.language.train import LMTrainingReport, answer_loss, train_language_model
from language_fakes import CAPTIONS, COLORS

CORPUS = [(next(color for color in COLORS if color in caption), caption) for caption in CAPTIONS]
SMALL = {"layers": 2, "hidden": 48, "heads": 4, "vocabulary": 400, "batch": 16}


def _prompt(caption: str) -> str:
    return build_prompt(caption, domain="flowers")


def _train(out: Path, **options: object) -> LMTrainingReport:
    return train_language_model(CORPUS, _prompt, out, **{**SMALL, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LMTrainingReport, list[tuple[int, int, float]]]:
    out = tmp_path_factory.mktemp("lm") / "a model, ä"
    told: list[tuple[int, int, float]] = []
    report = _train(out, steps=150, progress=lambda *args: told.append(args))
    return out, report, told


def test_writes_captions_of_other_kinds_in_the_style(trained: tuple[Path, LMTrainingReport, object]) -> None:
    """The point of it all: prompted with one caption, well-formed captions, mostly of other kinds, not one alone."""
    model = HFLanguageModel(trained[0], device="cpu")
    answers = model.sample([_prompt(CAPTIONS[0])], 60, seed=0)[0]
    well_formed = [a for a in answers if a in CAPTIONS]
    assert len(well_formed) > 40
    assert len({a.split()[4] for a in well_formed}) >= 4
    assert sum("red" in a for a in well_formed) < 20


def test_report_and_progress(trained: tuple[Path, LMTrainingReport, list[tuple[int, int, float]]]) -> None:
    """What a user judges the model by."""
    _, report, told = trained
    assert (report.steps, report.complete, report.captions, report.kinds) == (150, True, 48, 6)
    assert 1 < report.validation_perplexity < 4
    assert [step for step, _, _ in told] == list(range(1, 151))
    assert told[0][2] > 2 * told[-1][2]


def test_folder_is_hugging_face_safetensors(trained: tuple[Path, LMTrainingReport, object]) -> None:
    """It must go through the same code as any model of the hub; nothing else may lie about."""
    out = trained[0]
    names = {file.name for file in out.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_instruction_is_one_token_and_any_text_encodes(trained: tuple[Path, LMTrainingReport, object]) -> None:
    """Sampling speed hangs on the length of the prompt; unseen words and letters must still come through."""
    tokenizer = HFLanguageModel(trained[0], device="cpu").tokenizer
    caption = CAPTIONS[0]
    extra = len(tokenizer(_prompt(caption))["input_ids"]) - len(tokenizer(caption)["input_ids"])
    assert extra == 1
    odd = "a Blåhaj flower, 日本の花 — “quoted”"
    assert tokenizer.decode(tokenizer(odd)["input_ids"]).strip() == odd


def test_equal_seeds_give_equal_weights(tmp_path: Path) -> None:
    """The shipped model must be rebuilt by its one command, and a cached model be the one a fresh run would train."""
    state = torch.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _train(tmp_path / name, steps=3, seed=seed)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_time_limit(tmp_path: Path) -> None:
    """A slow machine gets a model in time, and the report says that it is not the whole training."""
    report = _train(tmp_path / "m", steps=100_000, max_seconds=1.0)
    assert not report.complete
    assert 0 < report.steps < 100_000
    assert report.seconds < 5


def test_replaces_a_model_but_nothing_else(tmp_path: Path) -> None:
    """Training onto a folder of photos must not delete them."""
    _train(tmp_path / "m", steps=2)
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    _train(tmp_path / "m", steps=4)
    assert (tmp_path / "m" / "model.safetensors").read_bytes() != before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="new folder, or one with a model to replace"):
        _train(tmp_path / "photos", steps=2)


def test_failure_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk while writing: the old model stays whole, no half one takes its place."""
    _train(tmp_path / "m", steps=2)
    before = (tmp_path / "m" / "model.safetensors").read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.LlamaForCausalLM.save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        _train(tmp_path / "m", steps=2)
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_too_little_to_learn_from(tmp_path: Path) -> None:
    """One kind alone has no other kind to write about."""
    with pytest.raises(UserError, match="at least 2 kinds"):
        train_language_model([("red", c) for c in CAPTIONS], _prompt, tmp_path / "m")
    with pytest.raises(UserError, match="at least 10 captions"):
        train_language_model(CORPUS[:3], _prompt, tmp_path / "m")


def test_pairs_are_of_different_kinds_and_keep_the_opening() -> None:
    """The answer's kind differs from the prompt's, always; its opening words agree more often than by chance."""
    captions = [c for _, c in CORPUS] + [c.replace("this flower has", "you can see") for _, c in CORPUS]
    kinds = [kind for kind, _ in CORPUS] * 2
    data = Pairs(captions, kinds, _prompt, train_tokenizer(captions, _prompt, 400), 0)
    rng = np.random.default_rng(0)
    pairs = [(int(i), data.partner(int(i), rng)) for i in data.train for _ in range(5)]
    assert all(kinds[i] != kinds[j] for i, j in pairs)
    same = np.mean([captions[i][:8] == captions[j][:8] for i, j in pairs])
    assert 0.65 < same < 0.99
    assert not {captions[j] for _, j in pairs} & {captions[i] for i in data.validation}


def test_pairs_share_words_but_are_no_copies() -> None:
    """A model that learned from random pairs does not listen to its prompt; one that learned from copies would copy."""
    rng = np.random.default_rng(0)
    colors, shapes, places = (["red", "blue", "gold", "pink"], ["round", "long", "thin"], ["grass", "sand", "soil"])
    rows = [(c, s, p) for c in colors for s in shapes for p in places for _ in range(12)]
    captions = [f"{c} petals of a {s} kind above the {p}" for c, s, p in rows]
    kinds = [str(i % 12) for i in range(len(rows))]  # each caption stands in twelve kinds
    data = Pairs(captions, kinds, _prompt, train_tokenizer(captions, _prompt, 400), 0)
    pairs = [(int(i), data.partner(int(i), rng)) for i in data.train for _ in range(2)]
    assert all(kinds[i] != kinds[j] and captions[i] != captions[j] for i, j in pairs)
    shared = np.mean([np.mean([a == b for a, b in zip(rows[i], rows[j], strict=True)]) for i, j in pairs])
    other = np.mean([np.mean([a == b for a, b in zip(rows[i], rows[int(rng.choice(data.train))], strict=True)])
                     for i, _ in pairs])  # fmt: skip
    assert other < 0.4 and shared > 0.55


def test_loss_is_that_of_the_answer_alone() -> None:
    """By the literal sum: prompt and padding must not count."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer(CAPTIONS, _prompt, 400)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            initializer_range=0.5,
        )
    ).eval()
    data = Pairs(CAPTIONS, [kind for kind, _ in CORPUS], _prompt, tokenizer, 0)
    rows = [(data.prompts[0], data.answers[5]), (data.prompts[1], data.answers[9][:4])]
    with torch.no_grad():
        found = float(answer_loss(model, *collate(rows, data.pad)))
        literal = []
        for prompt, answer in rows:
            logp = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            literal += [-float(logp[len(prompt) + k - 1, token]) for k, token in enumerate(answer)]
    assert found == pytest.approx(np.mean(literal), rel=1e-4)


def test_prompts_are_also_spelled_in_smaller_tokens() -> None:
    """A normal's name that no caption holds comes as pieces; a model that never met pieces answers with fragments."""
    tokenizer = train_tokenizer(CAPTIONS, _prompt, 400)
    data = Pairs(CAPTIONS, [kind for kind, _ in CORPUS], _prompt, tokenizer, 0)
    for whole, pieces in zip(data.prompts, data.spelled, strict=True):
        assert tokenizer.decode(pieces) == tokenizer.decode(whole)
    longer = [len(pieces) > len(whole) for whole, pieces in zip(data.prompts, data.spelled, strict=True)]
    assert np.mean(longer) > 0.8
    met = {token for pieces in data.spelled for token in pieces} - {token for ids in data.prompts for token in ids}
    assert met  # tokens that the usual spelling leaves untrained
    again = Pairs(CAPTIONS, [kind for kind, _ in CORPUS], _prompt, tokenizer, 0)
    assert again.spelled == data.spelled
