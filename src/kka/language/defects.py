"""The shipped language model of defects: a small Llama that writes captions with a blank for the object.

The blank is filled after sampling and emptied before tuning (`kka.defects.blanks`). Of a prompt the model hears what
the photos show, and nothing else: ideas of what could be wrong are its own.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from kka.defects.blanks import Blanks, subject_in
from kka.language.hf import HFLanguageModel
from kka.protocols import DPOReport, PreferencePair
from kka.settings.language import LanguageSettings

RATE = 3e-3
"""Learning rate of a tuning where none is set. At 1e-3, that of other small models, two rounds led it 0.35 nats at most
from its base, of 6 that it may go: a pair's captions differ in everything, and few of their words are what counts."""


class DefectsLanguageModel:
    """Writes captions of a defective object, and is tuned by DPO with LoRA. Equal seeds give equal texts.

    Args:
        source: The folder of the model: `kka.language.train_defects` made it.
        subjects: Descriptions of the photos ("a grey photo of a magnetic tile"), of which each prompt holds one. None:
            the caption in the prompt, where it is of a template that has a name; else "an object".
        settings: How it samples and is tuned.
        device: "auto" takes CUDA, then MPS, then the CPU.
        progress: Called with ("captions" or "dpo", done, total).

    Attributes:
        identity: Names the model; the key under which its captions may be cached.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        subjects: Sequence[str] = (),
        settings: LanguageSettings | None = None,
        device: str = "auto",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        settings = settings or LanguageSettings()
        if settings.dpo_learning_rate is None:
            settings = dataclasses.replace(settings, dpo_learning_rate=RATE)
        self.written = HFLanguageModel(source, settings=settings, device=device, progress=progress)
        self.subjects = tuple(dict.fromkeys(subjects))
        self.settings = settings
        self.identity = self.written.identity

    @property
    def tokens_written(self) -> int:
        """Tokens sampled so far."""
        return self.written.tokens_written

    def sample(self, prompts: Sequence[str], n: int, *, seed: int) -> list[list[str]]:
        """`n` captions to each prompt, prompt by prompt."""
        blanks = [self._blanks(prompt) for prompt in prompts]
        answers = self.written.sample([each.prompt for each in blanks], n, seed=seed)
        return [[each.fill(text) for text in texts] for each, texts in zip(blanks, answers, strict=True)]

    def tune(self, pairs: Sequence[PreferencePair], validation: Sequence[PreferencePair], *, seed: int) -> DPOReport:
        """Go on from the present adapter, against the base model as reference.

        Raises:
            UserError: no pairs.
        """
        return self.written.tune(self._emptied(pairs), self._emptied(validation), seed=seed)

    def save(self, path: Path) -> None:
        """Write the adapter (safetensors) into the folder `path`."""
        self.written.save(path)

    def restore(self, path: Path) -> None:
        """Take up an adapter that `save` wrote.

        Raises:
            UserError: there is none in `path`, or it does not fit this model.
        """
        self.written.restore(path)

    def _blanks(self, prompt: str) -> Blanks:
        return Blanks.of(subject_in(prompt, self.subjects))

    def _emptied(self, pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
        emptied = []
        for pair in pairs:
            blanks = self._blanks(pair.prompt)
            hard, easy = blanks.empty(pair.hard), blanks.empty(pair.easy)
            emptied.append(PreferencePair(prompt=blanks.prompt, hard=hard, easy=easy))
        return emptied
