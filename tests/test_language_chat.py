"""Chat templates that behave badly: the model is tuned on the prompt that it samples from, and on the whole answer."""

import gc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import kka.common.device
import kka.language.hf
import kka.language.trainer
from kka.common.device import autocast_dtype, half_precision
from kka.errors import UserError
from kka.language.chat import SYSTEM, Chat, shown_before
from kka.language.dpo import tokenised
from kka.language.hf import HFLanguageModel
from kka.language.measures import completion_logps
from kka.language.memory import Plan
from kka.language.trainer import lora_config, make_trainer
from kka.protocols import PreferencePair
from kka.settings.language import LanguageSettings
from language_fakes import CAPTIONS, save_tiny_model

PROMPT = f"Another flower: {CAPTIONS[0]}"
PAIRS = [
    PreferencePair(prompt=PROMPT, hard=hard, easy=easy)
    for hard, easy in zip(CAPTIONS[::2], CAPTIONS[1::2], strict=True)
]
CPU = torch.device("cpu")


def _trainer(peft: Any, tokenizer: Any, settings: LanguageSettings, folder: Path) -> Any:
    """TRL's trainer of four pairs."""
    plan = Plan(pairs=4, checkpointing=False, shared=False, parts=None)
    rows = tokenised(PAIRS[:4], Chat(tokenizer))
    return make_trainer(peft, tokenizer, rows, settings, seed=0, device=CPU, folder=str(folder), plan=plan)


ASSISTANT = "{%- if m['role'] == 'assistant' %}{{- m['content'] + '<|end|>' }}"
USER = "{{- '<|prompt|>' + m['content'] + '<|answer|>' }}"
LOOP, END = "{%- for m in messages %}", "{%- endif %}{%- endfor %}"
GENERATION = "{%- if add_generation_prompt %}{{- '<think></think>' }}{%- endif %}"
TEMPLATES = {
    "as it should be": LOOP + ASSISTANT + "{%- else %}" + USER + END,
    "adds <think> to the prompt alone": LOOP + ASSISTANT + "{%- else %}" + USER + END + GENERATION,
    "adds <think> to the answer alone": (
        LOOP + "{%- if m['role'] == 'assistant' %}{{- '<think></think>' + m['content'] + '<|end|>' }}"
        "{%- else %}" + USER + END
    ),
    "strips the answer, and breaks the line after it": (
        LOOP + "{%- if m['role'] == 'assistant' %}{{- m['content'] | trim + '<|end|>\\n' }}{%- else %}" + USER + END
    ),
    "puts no end behind an answer": (
        LOOP + "{%- if m['role'] == 'assistant' %}{{- m['content'] }}{%- else %}" + USER + END
    ),
    "is for prompts alone": (
        LOOP + "{%- if m['role'] == 'assistant' %}{{- raise_exception('prompts alone') }}{%- else %}" + USER + END
    ),
    "leaves answers out": LOOP + "{%- if m['role'] == 'assistant' %}{%- else %}" + USER + END,
    "wants a system's message": (
        "{%- if messages[0]['role'] != 'system' %}{{- raise_exception('system first') }}{%- endif %}" + LOOP + ASSISTANT
        + "{%- else %}" + USER + END
    ),
    "refuses a system's message": (
        "{%- if messages[0]['role'] == 'system' %}{{- raise_exception('no system') }}{%- endif %}" + LOOP + ASSISTANT
        + "{%- else %}" + USER + END
    ),
    "wants a message in parts": (
        LOOP + ASSISTANT + "{%- else %}{{- '<|prompt|>' }}"
        "{%- for part in m['content'] %}{{- part['text'] }}{%- endfor %}{{- '<|answer|>' }}" + END
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("lm") / "tiny", spread=0.1)


def tokenizer_with(folder: Path, template: str | None) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_tuned_is_what_is_sampled(name: str, folder: Path) -> None:
    """TRL warns, and cuts the end of the prompt: the model would be tuned for a prompt that it is never given."""
    tokenizer = tokenizer_with(folder, TEMPLATES[name])
    chat = Chat(tokenizer)
    prompt = chat.prompt_ids(PROMPT)
    text = " ".join(tokenizer.decode(prompt).split())  # its decoder puts a space before each word
    assert PROMPT in text and text.count("<|prompt|>") == 1 + (name == "wants a system's message")
    assert (SYSTEM in text) == (name == "wants a system's message")
    assert text.endswith("<think></think>" if "prompt alone" in name else "<|answer|>")
    for caption in (CAPTIONS[3], " a red one ", "…"):
        answer = str(tokenizer.decode(chat.answer_ids(PROMPT, caption)))
        assert answer.strip().removesuffix("<|end|>").strip() == caption.strip() and "<|end|>" in answer


@pytest.mark.parametrize("name", [*TEMPLATES, "no template"])
def test_the_trainer_gets_these_tokens(name: str, folder: Path, tmp_path: Path) -> None:
    """From prompt to loss by TRL's own trainer: no pair loses a token of its prompt or of its answer."""
    model = HFLanguageModel(folder, settings=LanguageSettings(dpo_steps=1), device="cpu")
    tokenizer = tokenizer_with(folder, TEMPLATES.get(name))
    peft = get_peft_model(model.model, lora_config(model.settings))
    trainer = _trainer(peft, tokenizer, model.settings, tmp_path)
    chat = Chat(tokenizer)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(2)])
    mask = batch["completion_mask"].bool()
    for row, ids, pair in zip(mask[:2], batch["input_ids"][:2], PAIRS, strict=False):
        shown = ids[batch["attention_mask"][0].bool()] if len(ids) == 1 else ids
        assert shown[~row].tolist()[: len(chat.prompt_ids(PROMPT))] == chat.prompt_ids(PROMPT)
        assert ids[row].tolist() == chat.answer_ids(pair.prompt, pair.hard)


WORKED = [("Another flower: " + CAPTIONS[5], CAPTIONS[6]), ("Another flower: " + CAPTIONS[7], CAPTIONS[8])]
TAKE_NO_ANSWERS = ("is for prompts alone", "leaves answers out", "wants a message in parts")


@pytest.mark.parametrize("name", [*TEMPLATES, "no template"])
def test_worked_examples_stand_before_the_prompt(name: str, folder: Path) -> None:
    """A small model takes their form; in tuning they stand there as well, as it is sampled from with them."""
    tokenizer = tokenizer_with(folder, TEMPLATES.get(name))
    chat = Chat(tokenizer, WORKED)
    ids = chat.prompt_ids(PROMPT)
    text = " ".join(str(tokenizer.decode(ids)).split())
    places = [text.find(part) for pair in WORKED for part in pair]
    if name == "no template" or name in TAKE_NO_ANSWERS[:2]:
        assert places == [-1] * 4 and PROMPT in text
    elif name in TAKE_NO_ANSWERS:  # its answers are plain text, its prompts in parts
        assert PROMPT in text
    else:
        assert places == sorted(places) and places[0] > -1 and places[-1] < text.find(PROMPT)
    answer = str(tokenizer.decode(chat.answer_ids(PROMPT, CAPTIONS[3])))
    assert answer.replace(" ", "").startswith(CAPTIONS[3].replace(" ", "")) and answer.strip().endswith("<|end|>")


def test_a_model_of_captions_is_prompted_as_it_was_trained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its template would take examples and a system's message, which it has never seen; the shipped one wrote worse."""
    of_captions = HFLanguageModel(folder, device="cpu", worked=WORKED)
    assert of_captions.encode(PROMPT) == Chat(of_captions.tokenizer).prompt_ids(PROMPT)
    monkeypatch.setattr(kka.language.hf, "SMALL_CHAT", (0, 1))
    chat_model = HFLanguageModel(folder, device="cpu", worked=WORKED)
    assert chat_model.encode(PROMPT) == Chat(chat_model.tokenizer, WORKED).prompt_ids(PROMPT)
    assert len(chat_model.encode(PROMPT)) > 2 * len(of_captions.encode(PROMPT))


def test_a_server_is_shown_the_same_messages() -> None:
    """Whoever changes the model changes no more than the model."""
    assert [message["role"] for message in shown_before(WORKED)] == ["system"] + ["user", "assistant"] * 2
    assert shown_before(())  == []


def test_tokens_that_merge_over_the_border(folder: Path) -> None:
    """A sampled answer begins after the prompt's last token, whatever tokens the two would make together."""
    alone = "{%- if messages[0]['role'] == 'system' %}{{- raise_exception('no system') }}{%- endif %}"
    tokenizer: Any = tokenizer_with(folder, alone + LOOP + "{{- m['content'] }}{%- endfor %}")
    chat = Chat(tokenizer)
    whole = tokenizer("this flo" + "wer has", add_special_tokens=False)["input_ids"]
    prompt = chat.prompt_ids("this flo")
    assert whole[: len(prompt)] != prompt, "no merge: another pair of words is needed"
    assert tokenizer.decode(prompt + chat.answer_ids("this flo", "wer has")).replace(" ", "") == "thisflowerhas<|end|>"


@pytest.mark.parametrize("template", ["{{- raise_exception('I take none') }}", "{{- 'the same always' }}", "{% for %}"])
def test_a_template_that_takes_no_prompt_is_refused_at_the_start(template: str, folder: Path) -> None:
    """After hours of pictures the tuning would end in a traceback of jinja."""
    with pytest.raises(UserError, match="its chat template takes no user's message"):
        Chat(tokenizer_with(folder, template))


def _load(module: torch.nn.Module) -> Counter[str]:
    """What hangs on a model's modules."""
    found: Counter[str] = Counter()
    for inner in module.modules():
        found["modules"] += 1
        found["forward"] += "forward" in vars(inner)
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            found[name] += len(getattr(inner, name) or ())
    found["parameters"] = sum(weight.numel() for weight in module.parameters())
    return found


def test_rounds_of_tuning_do_not_pile_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what a GPU's tuning has as well, gradient checkpointing: its hooks stayed, one more each round."""
    trainer = kka.language.trainer
    made = trainer.DPOConfig
    monkeypatch.setattr(trainer, "DPOConfig", lambda **given: made(**given | {"gradient_checkpointing": True}))
    model = HFLanguageModel(folder, settings=LanguageSettings(dpo_steps=1, max_new_tokens=8), device="cpu")
    use_cache = model.model.config.use_cache
    loads, attributes = [], []
    for number in range(3):
        model.tune(PAIRS[:4], [], seed=number)
        loads.append(_load(model._peft))
        attributes.append(sorted(vars(model.model)))
        assert list(model._peft.peft_config) == ["default"] and not model.model.is_gradient_checkpointing
        assert model.model.config.use_cache == use_cache
        gc.collect()
        assert not [found for found in gc.get_objects() if type(found).__name__ == "_Trainer"]
    assert loads[0] == loads[1] == loads[2] and loads[0]["forward"] == loads[0]["_forward_hooks"] == 0
    assert attributes[0] == attributes[1] == attributes[2]


def test_no_adapter_of_trl_is_no_error(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some versions of TRL and peft make no "ref": deleting it raised."""
    model = HFLanguageModel(folder, settings=LanguageSettings(dpo_steps=1), device="cpu")
    peft = get_peft_model(model.model, lora_config(model.settings))
    monkeypatch.setattr(peft, "add_adapter", lambda *_, **__: None)
    monkeypatch.setattr(peft, "get_parameter", lambda name: torch.nn.Parameter(torch.zeros(1).expand(1)))
    monkeypatch.setattr(peft, "named_parameters", lambda *_, **__: iter(()))
    _trainer(peft, model.tokenizer, model.settings, tmp_path)
    assert list(peft.peft_config) == ["default"]


class NoDoubles(TorchDispatchMode):
    """A device without numbers of 64 bits, as MPS is."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return out


def test_log_probabilities_on_a_device_without_doubles(folder: Path) -> None:
    """`.double()` raises on Apple's GPUs, after a whole round of pictures."""
    model = HFLanguageModel(folder, device="cpu")
    chat = model.chat
    given = [chat.prompt_ids(PROMPT)] * 2, [chat.answer_ids(PROMPT, caption) for caption in CAPTIONS[:2]]
    with NoDoubles():
        found = completion_logps(model.model, *given, model.tokenizer.pad_token_id, batch=2)
    assert found.dtype == np.float64 and (found < 0).all()


@pytest.mark.parametrize("has", [True, False])
def test_no_bf16_where_a_gpu_has_none(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A T4 or a V100 has none: torch emulates it, many times slower, and says that it is supported."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has or including_emulation)
    gpu = torch.device("cuda")
    assert half_precision(gpu) == (torch.bfloat16 if has else torch.float16) and half_precision(CPU) is None
    assert autocast_dtype("auto", gpu) == (torch.bfloat16 if has else None)
    assert autocast_dtype("fp32", gpu) is None and autocast_dtype("bf16", CPU) == torch.bfloat16
    if not has:
        with pytest.raises(UserError, match="this GPU has no bf16"):
            kka.common.device.autocast_dtype("bf16", gpu)
