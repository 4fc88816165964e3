"""Eq. 7 through TRL, on a tiny Llama: what is the reference, is dropout on, does tuning learn, resume, stay quiet."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model

from kka.algorithm.preferences import dpo_loss, make_pairs
from kka.errors import UserError
from kka.language.dpo import (
    _shortened,
    add_references,
    base_logps,
    tokenised,
)
from kka.language.hf import HFLanguageModel
from kka.language.measures import completion_logps
from kka.language.trainer import lora_config, make_trainer, plan_for, rate_for, steps_for
from kka.protocols import PreferencePair, TunableLanguageModel
from kka.settings.language import LanguageSettings
from language_fakes import CAPTIONS, COLORS, save_tiny_model

PROMPT = f"Another flower: {CAPTIONS[0]}"
CPU = torch.device("cpu")


def _pairs() -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Hard: the red and the blue ones."""
    hard = [any(color in caption for color in COLORS[:2]) for caption in CAPTIONS]
    return make_pairs(CAPTIONS, [(PROMPT,)] * len(CAPTIONS), hard, max_pairs=48, seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("lm") / "tiny", spread=0.1)


def _model(folder: Path, **options: object) -> HFLanguageModel:
    progress = options.pop("progress", None)
    settings: dict[str, Any] = {"dpo_learning_rate": 1e-2, "dpo_steps": 12, "max_new_tokens": 60, **options}
    return HFLanguageModel(folder, settings=LanguageSettings(**settings), device="cpu", progress=progress)  # type: ignore[arg-type]


def _trainer(model: HFLanguageModel, peft: Any, folder: Path, *, shared: bool = False) -> Any:
    """TRL's trainer of the pairs."""
    rows = tokenised(_pairs()[0], model.chat)
    if shared:
        add_references(peft, rows)
    plan = plan_for(peft, rows, model.settings, device=CPU, free=10**9, shared=shared)
    return make_trainer(peft, model.tokenizer, rows, model.settings, seed=0, device=CPU, folder=str(folder), plan=plan)


def _base_weights(model: HFLanguageModel) -> dict[str, torch.Tensor]:
    return {
        name.replace("base_layer.", ""): weight.clone()
        for name, weight in model.model.state_dict().items()
        if "lora" not in name
    }


@pytest.fixture(scope="module")
def tuned(folder: Path) -> HFLanguageModel:
    model = _model(folder)
    model.first = model.tune(*_pairs(), seed=1)  # type: ignore[attr-defined]
    return model


def test_tuning_learns_the_preference(tuned: HFLanguageModel) -> None:
    """Unseen texts with the preferred words must gain: loss below log 2, margin above 0."""
    report = tuned.first  # type: ignore[attr-defined]
    assert isinstance(tuned, TunableLanguageModel)
    assert report.steps == 12
    assert report.train_loss < np.log(2)
    assert report.validation_loss < np.log(2)
    assert report.margin > 0.02
    assert report.accuracy > 0.6
    assert report.kl_to_base > 0.01
    assert report.base_entropy > 1 and 1 <= report.different_after <= 200 and report.different_before > 50
    assert (report.train_pairs, report.validation_pairs) == tuple(map(len, _pairs()))


def test_a_step_that_leads_too_far_is_shortened(folder: Path) -> None:
    """A model that has run away writes the same few texts for ever. Within the bound nothing changes."""
    pairs = _pairs()
    free, usual = (_model(folder, dpo_steps=24, max_new_tokens=24, dpo_max_kl=bound) for bound in (1e9, 3.0))
    far, same = (model.tune(*pairs, seed=1) for model in (free, usual))
    assert far.step == same.step == 1 and far == same
    bound = far.kl_to_base / far.base_entropy / 3
    near_model = _model(folder, dpo_steps=24, max_new_tokens=24, dpo_max_kl=bound)
    near = near_model.tune(*pairs, seed=1)
    assert near.step in (1 / 2, 1 / 4, 1 / 8, 1 / 16) and 0 < near.kl_to_base < 0.5 * far.kl_to_base
    assert near.train_loss == far.train_loss and 0 < near.margin < far.margin  # of the model as it is left
    again = near_model.tune(*pairs, seed=2)  # from where it stands, which is within the bound
    assert again.kl_to_base <= 1.5 * bound * far.base_entropy


@pytest.mark.parametrize("kl", [float("nan"), float("inf")])
def test_no_step_is_taken_that_leads_nowhere(kl: float, folder: Path) -> None:
    """Weights that have become no numbers must not stay."""
    policy = get_peft_model(_model(folder).model, lora_config(LanguageSettings()))
    before = {name: weight.detach().clone() for name, weight in policy.named_parameters() if weight.requires_grad}
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if name in before:
                weight.add_(1.0 if kl == float("inf") else float("nan"))
    assert _shortened(policy, before, lambda: kl, 1.0)[0] == 0
    left = dict(policy.named_parameters())
    assert before and all(torch.equal(left[name], weight) for name, weight in before.items())


def test_base_weights_stay_to_the_last_bit(tuned: HFLanguageModel, folder: Path) -> None:
    """Only the adapter changes: else the reference would drift from round to round."""
    for name, weight in _base_weights(_model(folder)).items():
        assert torch.equal(_base_weights(tuned)[name], weight), name


def test_reference_is_the_base_model_in_later_rounds(tuned: HFLanguageModel, tmp_path: Path) -> None:
    """TRL makes a copy of an adapter that exists already its reference: the margin at step 0 would be exactly 0, and
    each round would be free to leave the base model a little further."""
    trainer = _trainer(tuned, tuned._peft, tmp_path)
    try:
        assert list(tuned._peft.peft_config) == ["default"]
        trainer.model.eval()
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(8)])
        with torch.no_grad():
            loss = float(trainer.compute_loss(trainer.model, batch))
        assert abs(np.mean(trainer._metrics["eval"]["rewards/margins"])) > 0.01
        rows = [trainer.train_dataset[i] for i in range(8)]
        given, pad = [row["prompt_ids"] for row in rows], tuned.tokenizer.pad_token_id
        logps = [
            measure(tuned._peft, given, [row[side] for row in rows], pad, batch=3)
            for measure in (completion_logps, base_logps)
            for side in ("chosen_ids", "rejected_ids")
        ]
        # TRL's loss, with its reference, is our pure one with the base model's log-probabilities.
        assert loss == pytest.approx(dpo_loss(*logps, tuned.settings.dpo_beta).mean(), rel=1e-4)
    finally:
        for module in (tuned._peft, tuned.model):
            module.__dict__.pop("forward", None)


def test_log_probabilities_by_the_literal_sum(tuned: HFLanguageModel) -> None:
    """Sum over the answer's tokens of log softmax at the token before, one sequence at a time, without padding."""
    prompts = [tuned.encode(PROMPT), tuned.encode("Another flower: red")]
    answers = [tuned.tokenizer(c, add_special_tokens=False)["input_ids"] for c in (CAPTIONS[3], "this red")]
    found = completion_logps(tuned._peft, prompts, answers, tuned.tokenizer.pad_token_id, batch=2)
    for prompt, answer, value in zip(prompts, answers, found, strict=True):
        with torch.no_grad():
            logp = tuned.model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        literal = sum(float(logp[len(prompt) + k - 1, token]) for k, token in enumerate(answer))
        assert value == pytest.approx(literal, rel=1e-4)


def test_tuning_sees_the_prompt_that_sampling_sees(tuned: HFLanguageModel, tmp_path: Path, folder: Path) -> None:
    """In the published code the two differ: the model is then tuned for a prompt that it is never given."""
    pairs, _ = _pairs()
    for source in (folder, save_tiny_model(tmp_path / "plain", chat=False)):
        model = _model(source)
        from peft import get_peft_model

        peft = get_peft_model(model.model, lora_config(model.settings))
        trainer = _trainer(model, peft, tmp_path)
        row = trainer.train_dataset[0]
        assert row["prompt_ids"] == model.encode(PROMPT)
        assert model.tokenizer.decode(row["chosen_ids"]).strip() == pairs[0].hard + model.tokenizer.eos_token


def test_dropout_is_on_in_training_and_off_after(folder: Path, tmp_path: Path) -> None:
    """TRL switches dropout off by default; the published setting of 0.1 would then be an ornament."""
    from peft import get_peft_model

    model = _model(folder)
    peft = get_peft_model(model.model, lora_config(model.settings))
    trainer = _trainer(model, peft, tmp_path)
    layers = [m for name, m in peft.named_modules() if "lora_dropout" in name and isinstance(m, torch.nn.Dropout)]
    assert len(layers) == 14  # seven linear maps in each of two layers
    assert {layer.p for layer in layers} == {0.1}
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)  # a fresh adapter is zero whatever dropout does
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    with torch.no_grad():
        peft.train()
        assert float(trainer.compute_loss(peft, batch)) != float(trainer.compute_loss(peft, batch))
        peft.eval()
        assert float(trainer.compute_loss(peft, batch)) == float(trainer.compute_loss(peft, batch))


def test_tuning_goes_on_from_the_last_adapter(folder: Path) -> None:
    """Round 2 starts where round 1 ended: the margin grows on, and the distance to the base with it."""
    model = _model(folder)
    first = model.tune(*_pairs(), seed=1)
    second = model.tune(*_pairs(), seed=2)
    assert second.train_loss < first.train_loss
    assert second.margin > first.margin


def test_restored_adapter_samples_and_tunes_to_the_same(folder: Path, tmp_path: Path) -> None:
    """A run that was killed and resumed must write the same captions and go on to the same adapter."""
    model = _model(folder, dpo_steps=4)
    model.tune(*_pairs(), seed=1)
    model.save(tmp_path / "adapter")
    files = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert "adapter_model.safetensors" in files
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    resumed = _model(folder, dpo_steps=4)
    resumed.restore(tmp_path / "adapter")
    assert resumed.sample([PROMPT], 8, seed=3) == model.sample([PROMPT], 8, seed=3)
    assert resumed.sample([PROMPT], 8, seed=3) != _model(folder).sample([PROMPT], 8, seed=3)
    assert resumed.tune(*_pairs(), seed=2) == model.tune(*_pairs(), seed=2)
    assert resumed.sample([PROMPT], 8, seed=4) == model.sample([PROMPT], 8, seed=4)


def test_restore_replaces_what_is_there(tuned: HFLanguageModel, folder: Path, tmp_path: Path) -> None:
    """Going back to the untuned state must take the adapter off, not pile one on another."""
    fresh = _model(folder)
    fresh.save(tmp_path / "none")
    tuned.save(tmp_path / "some")
    model = _model(folder)
    for name in ("some", "none", "some"):
        model.restore(tmp_path / name)
        expected = fresh if name == "none" else tuned
        assert model.sample([PROMPT], 6, seed=9) == expected.sample([PROMPT], 6, seed=9)


def test_restore_refuses_what_it_did_not_write(folder: Path, tmp_path: Path) -> None:
    """An empty folder, a missing weight file or an adapter of another model must not pass in silence."""
    model = _model(folder)
    with pytest.raises(UserError, match="expected a folder with a saved adapter"):
        model.restore(tmp_path)
    model.tune(*_pairs(), seed=1)
    model.save(tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"adapter_model\.safetensors"):
        _model(folder).restore(tmp_path / "adapter")


def test_no_pairs_is_refused(folder: Path) -> None:
    """The loop skips such a round; a call all the same is a mistake."""
    with pytest.raises(UserError, match="at least one preference pair"):
        _model(folder).tune([], [], seed=0)


def test_without_validation_the_figures_are_nan(folder: Path) -> None:
    """A made-up 0 would read as a measured one."""
    report = _model(folder, dpo_steps=2).tune(_pairs()[0], [], seed=0)
    assert np.isnan([report.validation_loss, report.margin, report.accuracy]).all()
    assert np.isfinite([report.train_loss, report.kl_to_base]).all()


def test_tuning_is_quiet_and_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No progress bars or logs in the run's output, no checkpoints, no telemetry; progress through the callback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda **_: pytest.fail("telemetry was sent"))
    told: list[tuple[str, int, int]] = []
    model = _model(folder, dpo_steps=3, progress=lambda *args: told.append(args))
    state = torch.get_rng_state()
    model.tune(*_pairs(), seed=0)
    assert told == [("dpo", 1, 3), ("dpo", 2, 3), ("dpo", 3, 3)]
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(torch.get_rng_state(), state)
    assert "forward" not in vars(model.model)
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err == ""


def test_gradient_accumulation_is_the_same_step(folder: Path) -> None:
    """4 × 4 pairs, as published, against 16 at once: the same losses (dropout off, which draws by batch)."""
    reports = [
        _model(folder, dpo_steps=3, lora_dropout=0.0, dpo_micro_batch=micro).tune(*_pairs(), seed=0)
        for micro in (None, 4)
    ]
    assert reports[0].validation_loss == pytest.approx(reports[1].validation_loss, rel=1e-3)
    assert reports[0].train_loss == pytest.approx(reports[1].train_loss, rel=1e-3)


def test_steps_and_rates() -> None:
    """Few pairs end early, small models learn faster."""
    settings = LanguageSettings(dpo_steps=150)
    assert steps_for(settings, 10_000) == 150
    assert steps_for(settings, 16) == 10
    assert steps_for(settings, 1) == 1
    assert steps_for(settings, 640, slow=True) == 12, "a large model on a CPU"
    assert steps_for(LanguageSettings(dpo_max_epochs=4), 640, slow=True) == 40, "unless it is set"
    assert rate_for(settings, torch.nn.Linear(3, 3)) == 1e-3
    assert rate_for(settings, torch.nn.Linear(10_001, 10_000, device="meta")) == 5e-5
    assert rate_for(LanguageSettings(dpo_learning_rate=2e-5), torch.nn.Linear(3, 3)) == 2e-5


def test_the_published_settings() -> None:
    """beta 0.1; LoRA of rank 8 and alpha 8 with dropout 0.1 on all linear layers."""
    settings, adapter = LanguageSettings(), lora_config(LanguageSettings())
    assert settings.dpo_beta == 0.1
    assert (adapter.r, adapter.lora_alpha, adapter.lora_dropout) == (8, 8, 0.1)
    assert adapter.target_modules == "all-linear"


@pytest.mark.parametrize(
    "wrong",
    [{"dpo_beta": 0.0}, {"lora_dropout": 1.0}, {"dpo_micro_batch": 5}, {"dpo_steps": 0}, {"dpo_learning_rate": -1}],
)
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    """A tuning with it would fail after hours, or do nothing."""
    with pytest.raises(UserError, match=f"expected language.{next(iter(wrong))}"):
        LanguageSettings(**wrong)  # type: ignore[arg-type]
