"""Eq. 3 with any causal language model of Hugging Face's transformers, from the hub or a folder.

Safetensors only. Each prompt is read once: its keys and values are shared by all its answers, which are sampled
together in batches.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.cache_utils import DynamicLayer

from kka.common.device import choose_device
from kka.common.json_text import parse_json
from kka.common.workers import Copies
from kka.errors import UserError
from kka.language.chat import Chat
from kka.language.loading import identify, load_model
from kka.language.processors import FiniteLogits, Nucleus, Told
from kka.language.rng import own_randomness
from kka.language.roomy import RoomyLayer
from kka.protocols import DPOReport, PreferencePair
from kka.seeding import derive_seed
from kka.settings.language import LanguageSettings

SMALL_CHAT = (100_000_000, 1_000_000_000)
"""Parameters of chat models that hold together at a lower temperature alone; smaller ones are trained on captions."""
SMALL_CHAT_TEMPERATURE = 0.7
AT_ONCE = (256, 64)
"""Answers that are sampled at once, of models that were trained on captions and of larger ones."""
LARGE_VOCABULARY = 8192


class HFLanguageModel:
    """Writes captions, and is tuned by DPO with LoRA. Equal seeds give equal texts for equal calls.

    Args:
        source: A hub id ("Qwen/Qwen3-4B-Instruct-2507") or a folder with config.json and safetensors.
        settings: How it samples and is tuned.
        device: "auto" takes CUDA, then MPS, then the CPU.
        revision: Branch, tag or commit on the hub.
        worked: Prompts with an answer each, which a chat model is shown before the prompt. One of under 100 million
            parameters is taken for one that was trained on captions, and is not.
        progress: Called with ("captions", "dpo" or "measuring", done, total).

    Attributes:
        say: Called, where it is set, with a line of text on how long a tuning takes.
        shared: Whether the model is large and reads each prompt of a tuning once.
        copies: Where it is set: copies of the model on other machines, which sample in its place.
        tokens_written: Tokens sampled so far, ends of sequence included.
        identity: Names the model; the key under which its captions may be cached.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        settings: LanguageSettings | None = None,
        device: str = "auto",
        revision: str | None = None,
        worked: Sequence[tuple[str, str]] = (),
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.settings = settings or LanguageSettings()
        if self.settings.max_new_tokens is None:
            raise UserError("language.max_new_tokens: expected a number, for a model that runs here; got none")
        self.max_new_tokens = self.settings.max_new_tokens
        self.source = str(source)
        self.device = choose_device(device)
        self.progress = progress
        self.tokens_written = 0
        self.model, self.tokenizer = load_model(
            self.source, self.device, self.settings.load_in_4bit, self.settings.trust_remote_code, revision,
            precision=self.settings.precision,
        )  # fmt: skip
        of_captions = self.model.num_parameters() < SMALL_CHAT[0]  # it was trained on prompts without examples
        self.chat = Chat(self.tokenizer, () if of_captions else worked)
        self.identity = identify(self.source, revision)
        self._peft: Any = None  # the peft.PeftModel around `model`, from the first tuning on
        self.shared = False  # until a tuning has tried
        self.say: Callable[[str], None] | None = None
        self.copies: Copies | None = None
        self.tunings = 0  # or takings up of an adapter
        self._of_base: dict[tuple[str, ...], float] = {}  # entropies, by prompts
        self._different: tuple[list[str], int] | None = None  # by which prompts, and how many

    # --- Eq. 3 -------------------------------------------------------------------------------------------------

    def sample(self, prompts: Sequence[str], n: int, *, seed: int) -> list[list[str]]:
        """`n` raw answers to each prompt, prompt by prompt."""
        prompt_ids = [self.encode(prompt) for prompt in prompts]
        jobs = [i for i in range(len(prompts)) for _ in range(n)]
        answers: list[list[str]] = [[] for _ in prompts]
        size, (temperature, top_p) = self._at_once, self._sampling
        if self.copies is not None:
            from kka.language.copies import sampled_by

            return sampled_by(self.copies, self, prompts, jobs, size=size, seed=seed)
        for batch, start in enumerate(range(0, len(jobs), size)):
            part, own = jobs[start : start + size], derive_seed(seed, "sample", batch)
            tell = self._part_of("captions", start, len(part), len(jobs)) if self._large else None
            tokens = self._generate(prompt_ids, part, own, temperature, top_p, tell=tell)
            for i, answer in zip(part, tokens, strict=True):
                answers[i].append(self.decode(answer))
            if self.progress is not None:
                self.progress("captions", start + len(part), len(jobs))
        return answers

    def answer(self, prompts: Sequence[str], rows: Sequence[int], *, seed: int) -> list[str]:
        """The text of one answer to prompt i for each i of `rows`, sampled together: a batch of `sample`."""
        encoded = [self.encode(prompt) for prompt in prompts]
        return [self.decode(tokens) for tokens in self._generate(encoded, list(rows), seed, *self._sampling)]

    def draw(self, prompts: Sequence[str], rows: Sequence[int], *, seed: int, as_set: bool = False) -> list[list[int]]:
        """The tokens of one answer to prompt i for each i of `rows`, drawn as the probabilities are.

        Args:
            as_set: With the temperature and the top-p that are set, as `sample` draws.
        """
        encoded, size = [self.encode(prompt) for prompt in prompts], self._at_once
        temperature, top_p = self._sampling if as_set else (1.0, 1.0)
        tell = _for_stage(self.progress, "measuring") if self.progress is not None and self.shared else None
        answers: list[list[int]] = []
        for batch, start in enumerate(range(0, len(rows), size)):
            part, own = list(rows[start : start + size]), derive_seed(seed, "draw", batch)
            answers += self._generate(encoded, part, own, temperature, top_p, tell=tell)
        return answers

    def _part_of(self, stage: str, start: int, part: int, total: int) -> Callable[[int, int], None] | None:
        """Tells of tokens as of the answers that they make: a batch of a large model takes minutes."""
        progress = self.progress
        if progress is None:
            return None
        return lambda done, most: progress(stage, start + (part - 1) * done // most, total)

    @property
    def _sampling(self) -> tuple[float, float]:
        """Temperature and top-p: as they are set, else by the size of the model."""
        small_chat = SMALL_CHAT[0] <= self.model.num_parameters() < SMALL_CHAT[1]
        usual = SMALL_CHAT_TEMPERATURE if small_chat else 1.0
        return self.settings.temperature or usual, self.settings.top_p or 1.0

    @property
    def _at_once(self) -> int:
        """Answers: a rule of the model alone, as equal seeds are to give equal texts on any machine."""
        return self.settings.batch_size or AT_ONCE[self.model.num_parameters() >= SMALL_CHAT[0]]

    @property
    def _large(self) -> bool:
        """Whether its vocabulary is worth a sampler of its own."""
        return self.model.get_output_embeddings().weight.shape[0] > LARGE_VOCABULARY

    def encode(self, prompt: str) -> list[int]:
        """The tokens of a prompt, up to where the answer begins."""
        return self.chat.prompt_ids(prompt)

    def decode(self, tokens: list[int]) -> str:
        """The text of an answer; of one that was cut off, up to its last whole line."""
        text = str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()
        if len(tokens) == self.max_new_tokens and tokens[-1] not in self._ends():
            return text.rpartition("\n")[0].strip()  # cut off: the last line is not whole
        return text

    def _ends(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        return {end for end in [*ends, self.tokenizer.eos_token_id] if end is not None}

    @torch.no_grad()
    def _generate(
        self, prompt_ids: list[list[int]], rows: list[int], seed: int, temperature: float, top_p: float,
        tell: Callable[[int, int], None] | None = None,
    ) -> list[list[int]]:  # fmt: skip
        """One sampled answer, up to and with its end, for each entry i of `rows`, to prompt i."""
        self.model.eval()
        used = sorted(set(rows))
        padded = self.tokenizer.pad(
            {"input_ids": [prompt_ids[i] for i in used]}, padding_side="left", return_tensors="pt"
        ).to(self.device)
        index = torch.tensor([used.index(i) for i in rows], device=self.device)
        ids, mask = padded["input_ids"], padded["attention_mask"]
        ends = sorted(self._ends())
        config = GenerationConfig(
            do_sample=True,
            temperature=1.0 if self._large else temperature,  # `Nucleus` does both
            top_p=1.0 if self._large else top_p,
            top_k=0,  # transformers' own default keeps 50
            max_new_tokens=self.max_new_tokens,
            eos_token_id=ends,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        processors: list[LogitsProcessor] = [FiniteLogits(self.source)]
        if self._large:
            processors.append(Nucleus(temperature, top_p))
        if tell is not None:
            processors.append(Told(tell, self.max_new_tokens))
        with own_randomness(seed, self.device):
            out = self.model.generate(
                input_ids=ids[index],
                attention_mask=mask[index],
                generation_config=config,
                logits_processor=LogitsProcessorList(processors),
                **self._read_once(ids, mask, index),
            )
        answers = [_upto(row, set(ends)) for row in out[:, ids.shape[1] :].tolist()]
        self.tokens_written += sum(map(len, answers))
        return answers

    def _read_once(self, ids: torch.Tensor, mask: torch.Tensor, index: torch.Tensor) -> dict[str, Any]:
        """The cache of all prompt tokens but the last, computed once a prompt and dealt out to its answers."""
        if len(ids) == len(index) or ids.shape[1] < 2 or not self.model._supports_default_dynamic_cache():
            return {}
        cache = DynamicCache(config=self.model.config)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, :-1]
        self.model(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions,
            past_key_values=cache,
            logits_to_keep=1,
        )
        cache.batch_select_indices(index)
        cache.layers = [
            RoomyLayer(layer, self.max_new_tokens + 1) if type(layer) is DynamicLayer else layer
            for layer in cache.layers
        ]
        return {"past_key_values": cache}

    # --- Eq. 7 -------------------------------------------------------------------------------------------------

    def tune(self, pairs: Sequence[PreferencePair], validation: Sequence[PreferencePair], *, seed: int) -> DPOReport:
        """Go on from the present adapter, against the base model as reference.

        Raises:
            UserError: no pairs.
        """
        from peft import get_peft_model

        from kka.language import measures
        from kka.language.dpo import tune_adapter
        from kka.language.logps import shares
        from kka.language.trainer import is_small, lora_config

        if not pairs:
            raise UserError(
                "DPO: expected at least one preference pair; got none (a round without pairs tunes nothing)"
            )
        self.tunings += 1
        with own_randomness(seed, self.device):
            if self._peft is None:
                self._peft = get_peft_model(self.model, lora_config(self.settings))
            if not (self.shared or is_small(self._peft)):
                answers = [self.chat.answer_ids(pairs[0].prompt, text) for text in (pairs[0].hard, pairs[0].easy)]
                self.shared = shares(self._peft, self.encode(pairs[0].prompt), answers)
            tell = None if self.progress is None else _for_stage(self.progress, "dpo")
            prompts = sorted({pair.prompt for pair in pairs})
            entropy = self._entropy(prompts, seed)
            before = self._different_captions(prompts, seed)
            tuned = tune_adapter(
                self._peft, self.chat, pairs, validation, self.settings, seed=seed, device=self.device,
                progress=tell, distance=lambda: measures.kl_to_base(self, prompts, seed=derive_seed(seed, "kl")),
                bound=self.settings.dpo_max_kl * entropy, shared=self.shared, say=self.say,
            )  # fmt: skip
            self._different = None
            after = self._different_captions(prompts, seed)
        return DPOReport(
            steps=tuned.steps,
            train_pairs=len(pairs),
            validation_pairs=len(validation),
            train_loss=tuned.train_loss,
            validation_loss=tuned.validation_loss,
            margin=tuned.margin,
            accuracy=tuned.accuracy,
            kl_to_base=tuned.kl_to_base,
            step=tuned.step,
            base_entropy=entropy,
            different_before=before,
            different_after=after,
            answers=measures.SOME if self.shared else measures.HUNDRED,
        )

    def _entropy(self, prompts: list[str], seed: int) -> float:
        """Of the base model. A large one's is measured once for the same prompts, whatever the round."""
        from kka.language.measures import base_entropy

        if not self.shared:
            return base_entropy(self, prompts, seed=derive_seed(seed, "entropy"))
        key = tuple(prompts)
        if key not in self._of_base:
            self._of_base[key] = base_entropy(self, prompts, seed=derive_seed(0, "entropy"))
        return self._of_base[key]

    def _different_captions(self, prompts: list[str], seed: int) -> int:
        """Of the model as it stands. A large one's, left by a tuning, is not measured again before the next one."""
        from kka.language.measures import different_captions

        if not self.shared:
            return different_captions(self, prompts, seed=derive_seed(seed, "different"))
        if self._different is None or self._different[0] != prompts:
            self._different = prompts, different_captions(self, prompts, seed=derive_seed(0, "different"))
        return self._different[1]

    @property
    def policy(self) -> Any:
        """The model with its adapter, where it has one."""
        return self.model if self._peft is None else self._peft

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Without its adapter meanwhile."""
        with nullcontext() if self._peft is None else self._peft.disable_adapter():
            yield

    def save(self, path: Path) -> None:
        """Write the adapter (safetensors) into the folder `path`; of an untuned model, the note that there is none."""
        path.mkdir(parents=True, exist_ok=True)
        if self._peft is not None:
            for config in self._peft.peft_config.values():
                if isinstance(config.target_modules, set):  # whose order would differ from process to process
                    config.target_modules = sorted(config.target_modules)
            # The base model's embeddings stay as they are; peft would look for its files to find that out.
            self._peft.save_pretrained(str(path), safe_serialization=True, save_embedding_layers=False)
        (path / NOTE).write_text(json.dumps({"tuned": self._peft is not None, "base": self.identity}, indent=1))

    def restore(self, path: Path) -> None:
        """Take up an adapter that `save` wrote.

        Raises:
            UserError: there is none in `path`, or it does not fit this model.
        """
        if not (path / NOTE).is_file():
            raise UserError(f"language model: expected a folder with a saved adapter; got {path}")
        self.tunings += 1
        self._different = None  # it was counted of another adapter
        if self._peft is not None:
            self.model = self._peft.unload()
            self._peft = None
        if not parse_json((path / NOTE).read_text())["tuned"]:
            return
        if not (path / "adapter_model.safetensors").is_file():
            raise UserError(f"language model: expected adapter_model.safetensors in {path}; it is missing")
        from peft import PeftModel

        try:
            self._peft = PeftModel.from_pretrained(self.model, str(path), is_trainable=True)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"language model: the adapter in {path} does not fit {self.source}: {error}") from error
        self._peft.eval()


NOTE = "adapter.json"
"""Written last by `save`."""


def _for_stage(progress: Callable[[str, int, int], None], stage: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(stage, done, total)


def _upto(tokens: list[int], ends: set[int]) -> list[int]:
    """`tokens` up to and with the first end of sequence: padding follows it."""
    for i, token in enumerate(tokens):
        if token in ends:
            return tokens[: i + 1]
    return tokens
