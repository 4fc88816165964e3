"""Log-probabilities with each prompt read once, and a tuning by them: the same figures, for less."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model
from transformers import MambaConfig, MambaForCausalLM

from kka.language import dpo, measures, trainer
from kka.language.dpo import add_references, tokenised
from kka.language.hf import HFLanguageModel
from kka.language.logps import can_share, row_logits, row_of, rows_of, shared_logps, shares
from kka.language.measures import base_entropy, completion_logps, kl_to_base
from kka.language.memory import Plan
from kka.language.trainer import lora_config, make_trainer, parts_of, plan_for
from kka.protocols import PreferencePair
from kka.settings.language import LanguageSettings
from language_fakes import CAPTIONS, save_tiny_model

CPU = torch.device("cpu")
PROMPTS = [f"Another flower: {caption}" for caption in CAPTIONS[:3]]
PAIRS = [PreferencePair(prompt=PROMPTS[i % 3], hard=CAPTIONS[3 + i], easy=CAPTIONS[-1 - i]) for i in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("lm") / "tiny", spread=0.1)


def _policy(folder: Path, **options: Any) -> tuple[HFLanguageModel, Any]:
    """A model with an adapter that is not zero."""
    settings = LanguageSettings(max_new_tokens=20, dpo_batch=8, dpo_learning_rate=1e-2, dpo_steps=3, **options)
    model = HFLanguageModel(folder, settings=settings, device="cpu")
    model._peft = get_peft_model(model.model, lora_config(model.settings))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model._peft.named_parameters():
            if "lora" in name:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    model._peft.eval()
    return model, model._peft


def test_a_row_by_hand() -> None:
    """Two prompts, two answers to the first: no token may see another answer, another prompt or what comes later."""
    row = row_of([[7, 8], [9], [7, 8]], [[1, 2], [3], [4]], "cpu")
    assert row.ids.tolist() == [[7, 8, 1, 2, 4, 9, 3]]
    assert row.positions.tolist() == [[0, 1, 2, 3, 2, 0, 1]]
    seen = [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [5], [5, 6]]
    assert [mask.nonzero().flatten().tolist() for mask in row.allowed[0, 0]] == seen
    assert row.keep.tolist() == [1, 2, 1, 5] and row.targets.tolist() == [1, 2, 4, 3]
    assert row.owners.tolist() == [0, 0, 2, 1] and row.places.tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_log_probabilities_are_those_of_each_answer_alone(folder: Path, attention: str) -> None:
    """Else the tuned model is another than Eq. 7's. Against the padded way, which its own test holds to the literal."""
    model, policy = _policy(folder)
    model.model.set_attn_implementation(attention)
    prompts = [model.encode(prompt) for prompt in (PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[2])]
    answers = [model.chat.answer_ids(PROMPTS[0], caption) for caption in CAPTIONS[4:8]]
    plain = completion_logps(policy, prompts, answers, model.tokenizer.pad_token_id, batch=2)
    assert shared_logps(policy, prompts, answers) == pytest.approx(plain, rel=1e-4)
    assert shares(policy, prompts[0], answers[:2])


def test_logits_where_answers_stand_are_those_of_all_tokens(folder: Path) -> None:
    """A shift by one would foretell the token that is read."""
    model, policy = _policy(folder)
    prompt, answer = model.encode(PROMPTS[0]), model.chat.answer_ids(PROMPTS[0], CAPTIONS[5])
    with torch.no_grad():
        found = row_logits(policy, row_of([prompt], [answer], "cpu"))
        every = policy(input_ids=torch.tensor([prompt + answer])).logits[0]
    assert found.numpy() == pytest.approx(every[len(prompt) - 1 : -1].numpy(), abs=1e-4)


def test_rows_hold_every_answer_once_and_no_more_than_may_be() -> None:
    """An answer left out would have a log-probability of 0: a certain one."""
    generator = np.random.default_rng(0)
    prompts = [[int(k)] * 5 for k in generator.integers(0, 4, 40)]
    answers = [[1] * int(n) for n in generator.integers(1, 9, 40)]
    found = list(rows_of(prompts, answers, tokens=30))
    assert sorted(i for part in found for i in part) == list(range(40)) and len(found) > 4
    assert all(row_of([prompts[i] for i in p], [answers[i] for i in p], "cpu").ids.shape[1] <= 30 for p in found)
    assert list(rows_of(prompts[:2], answers[:2], tokens=1)) in ([[0], [1]], [[1], [0]])  # longer than may be, alone


def test_a_model_with_a_recurrent_state_is_not_given_rows() -> None:
    """It would hear the answer before."""
    config = MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4)
    assert not can_share(MambaForCausalLM(config))


def test_a_model_that_does_not_heed_the_mask_is_found_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying tells what no list of models knows."""
    model, policy = _policy(folder)
    plain = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda **kw: plain(**{**kw, "attention_mask": None}))
    prompt = model.encode(PROMPTS[0])
    assert not shares(policy, prompt, [model.chat.answer_ids(PROMPTS[0], caption) for caption in CAPTIONS[4:6]])


def _gradient(folder: Path, tmp_path: Path, *, shared: bool, at_once: int = 8, checkpointing: bool = False) -> Any:
    """Loss and the adapter's gradient of one batch, by TRL."""
    model, policy = _policy(folder, lora_dropout=0.0)
    rows = tokenised(PAIRS, model.chat)
    if shared:
        add_references(policy, rows)
    plan = Plan(pairs=at_once, checkpointing=checkpointing, shared=shared, parts=None)
    trainer = make_trainer(
        policy, model.tokenizer, rows, model.settings, seed=0, device=CPU, folder=str(tmp_path), plan=plan
    )
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # which `train` sets
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(8)])
    loss = float(trainer.training_step(trainer.model, batch))
    return loss, torch.cat([p.grad.flatten() for p in policy.parameters() if p.requires_grad])


def test_the_gradient_is_the_same_however_it_is_computed(folder: Path, tmp_path: Path) -> None:
    """Prompts read once, references from before, pairs by twos and threes, checkpoints: one step of Eq. 7 all the
    same."""
    loss, gradient = _gradient(folder, tmp_path, shared=False)
    assert float(gradient.abs().max()) > 1e-4
    for way in (
        {"shared": False, "at_once": 3}, {"shared": True}, {"shared": True, "at_once": 2},
        {"shared": True, "at_once": 3, "checkpointing": True},
    ):  # fmt: skip
        found, other = _gradient(folder, tmp_path, **way)  # type: ignore[arg-type]
        assert found == pytest.approx(loss, rel=1e-4), way
        assert other.numpy() == pytest.approx(gradient.numpy(), abs=1e-4 * float(gradient.abs().max())), way


def test_out_of_memory_halves_the_pairs_and_does_the_step_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was computed before it must not count twice."""
    expected = _gradient(folder, tmp_path, shared=True)
    seen = []
    whole = trainer.DPOTrainer.compute_loss

    def limited(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(inputs["input_ids"]) // 2)
        if len(seen) in (1, 3):  # of all pairs, and of the second half
            raise torch.OutOfMemoryError("out of memory")
        return whole(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer.DPOTrainer, "compute_loss", limited)
    loss, gradient = _gradient(folder, tmp_path, shared=True)
    assert seen == [8, 4, 4, 2, 2, 2, 2]
    assert loss == pytest.approx(expected[0], rel=1e-5)
    assert gradient.numpy() == pytest.approx(expected[1].numpy(), abs=1e-4 * float(expected[1].abs().max()))


def test_parts_of_a_batch_hold_whole_pairs() -> None:
    """Preferred and other answers of different pairs would be compared."""
    ids = torch.tensor([[3, 1, 10], [1, 1, 11], [2, 1, 0], [3, 1, 20], [1, 1, 21], [2, 1, 0]])
    batch = {
        "input_ids": ids, "attention_mask": (ids > 0).long(), "ref_chosen_logps": torch.tensor([-3.0, -1.0, -2.0])
    }  # fmt: skip
    first, last = parts_of(batch, 2)
    assert first["input_ids"].tolist() == [[1, 1, 11], [2, 1, 0], [1, 1, 21], [2, 1, 0]]
    assert first["ref_chosen_logps"].tolist() == [-1, -2]
    assert last["input_ids"].tolist() == [[3, 1, 10], [3, 1, 20]]
    assert [part["input_ids"].shape[1] for part in parts_of(batch, 1)] == [3, 2, 3]


def test_entropy_and_kl_by_tokens_are_those_of_the_distributions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large model is measured on few answers: the sum over tokens of what their whole distributions say."""
    model, policy = _policy(folder)
    model.shared = True
    prompts = [PROMPTS[0], PROMPTS[1]]
    answers = model.draw(prompts, [0, 0, 1], seed=4)
    monkeypatch.setattr(model, "draw", lambda *_, **__: answers)
    monkeypatch.setattr(measures, "FEW", 3)
    kl = entropy = 0.0
    for prompt, answer in zip([prompts[0], prompts[0], prompts[1]], answers, strict=True):
        ids, first = torch.tensor([model.encode(prompt) + answer]), len(model.encode(prompt))
        with torch.no_grad():
            p = policy(input_ids=ids).logits[0, first - 1 : -1].double().softmax(-1)
            with policy.disable_adapter():
                q = policy(input_ids=ids).logits[0, first - 1 : -1].double().softmax(-1)
        kl += float((p * (p / q).log()).sum()) / 3
        entropy += float(-(q * q.log()).sum()) / 3
    assert kl_to_base(model, prompts, seed=0) == pytest.approx(kl, rel=1e-3)
    assert base_entropy(model, prompts, seed=0) == pytest.approx(entropy, rel=1e-3)


@pytest.fixture
def large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> HFLanguageModel:
    """A tiny model that is tuned as a large one."""
    monkeypatch.setattr(trainer, "SMALL_MODEL", 0)
    settings = LanguageSettings(max_new_tokens=12, dpo_batch=8, dpo_learning_rate=1e-2, dpo_steps=3, dpo_max_kl=1e9)
    return HFLanguageModel(folder, settings=settings, device="cpu")


def test_a_large_model_is_tuned_with_its_references_computed_once(
    large: HFLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every step pays for them again; in the second round they are the base model's still."""
    calls = []
    scored = dpo.shared_logps

    def counted(policy: Any, prompts: Any, answers: Any) -> np.ndarray:
        found = scored(policy, prompts, answers)
        calls.append((policy.base_model.model.model.layers[0].mlp.up_proj.disable_adapters, found))
        return found

    monkeypatch.setattr(dpo, "shared_logps", counted)
    said: list[str] = []
    large.say = said.append
    first, second = (large.tune(PAIRS[:6], PAIRS[6:], seed=seed) for seed in (1, 2))
    assert large.shared and (first.steps, second.steps) == (3, 3)
    assert second.train_loss < first.train_loss < np.log(2)
    assert [off for off, _ in calls] == [True, True, False, False] * 2  # pairs, validation pairs; and these when tuned
    assert np.array_equal(calls[0][1], calls[4][1])
    assert len(said) == 2 and "3 steps of 8 pairs, 6 at once: about" in said[0]
    assert "forward" not in vars(large.model)


def test_a_large_model_tuned_again_after_a_restart_is_the_same(large: HFLanguageModel, tmp_path: Path) -> None:
    """What is kept from one round to the next may not make a difference."""
    large.tune(PAIRS[:6], PAIRS[6:], seed=1)
    large.save(tmp_path / "adapter")
    other = HFLanguageModel(large.source, settings=large.settings, device="cpu")
    other.restore(tmp_path / "adapter")
    assert other.tune(PAIRS[:6], PAIRS[6:], seed=2) == large.tune(PAIRS[:6], PAIRS[6:], seed=2)


def test_less_memory_means_fewer_pairs_at_once(folder: Path) -> None:
    """On a CPU more than there is ends the process."""
    model, policy = _policy(folder)
    rows = tokenised(PAIRS, model.chat)

    def pairs(free: int, *, shared: bool = True) -> int:
        return plan_for(policy, rows, model.settings, device=CPU, free=free, shared=shared).pairs

    parts = plan_for(policy, rows, model.settings, device=CPU, free=10**9, shared=True).parts
    assert parts is not None
    assert pairs(10**9) == pairs(10**9, shared=False) == 8
    assert pairs(parts.adapter + 7 * parts.pair // 2) == 3 > pairs(parts.adapter + 7 * parts.pair // 2, shared=False)


def test_a_pair_that_takes_more_than_expected_means_fewer_at_once(
    large: HFLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate of a model with code of its own may be wrong; a measured one decides then."""
    said: list[str] = []
    large.say = said.append
    monkeypatch.setattr(dpo, "free_bytes", lambda device, limit: 10**8)
    for taken in (10, 4 * 10**7):
        monkeypatch.setattr(trainer, "_trial", lambda _, pairs, taken=taken: (taken, 0.5 * pairs))
        large.tune(PAIRS[:6], PAIRS[6:], seed=1)
    assert ["6 at once: about 12 seconds" in said[0], "2 at once: about 12 seconds" in said[1]] == [True, True]
