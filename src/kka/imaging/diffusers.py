"""Eq. 4 by a diffusion model: any text-to-image pipeline of the diffusers library, from the hub or from a folder.

Weights are safetensors, and no remote code runs. Each picture has a random generator of its own, on the CPU, so that
it depends on its caption and seed alone; on one device a batch of another size changes it by rounding at most.
"""

import inspect
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kka.common.files import read_json
from kka.common.hub import require_model
from kka.errors import UserError, unknown
from kka.protocols import Images
from kka.settings import refuse_unknown
from kka.settings.drawing import DrawingSettings

if TYPE_CHECKING:
    import torch

FEW_STEPS: dict[str, tuple[int, float]] = {
    "turbo": (4, 0.0),
    "schnell": (4, 0.0),
    "lightning": (4, 0.0),
    "lcm": (4, 8.0),
}
"""Word in a model's name -> (steps, guidance) as published for models distilled to few steps. Turbo models do with
one step as well, which is four times as fast. Other models: the pipeline's own defaults, mostly 50 and 7.5."""
DTYPES = ("auto", "float16", "bfloat16", "float32")
SETTINGS = ("steps", "guidance", "size", "batch_size", "negative_prompt")
"""What it knows of `DrawingSettings`."""
BATCH = 4
"""Pictures drawn together, unasked."""
INDEX = "model_index.json"
"""The file by which a pipeline is known."""
SIDE = 8
"""Heights and widths are multiples of this: one cell of the usual latent space, in pixels."""


RECOMMENDED = "drawing.json"
"""In the folder of a model that kka trained: the steps and the guidance that it draws with unasked, and what it was
trained on."""
SAMPLES = "samples.png"
"""There: samples, beside the real pictures of their captions."""


class DiffusersModel:
    """An `ImageModel` by `AutoPipelineForText2Image`.

    `settings`: `steps`, `guidance` and `size` at None are the defaults of the model (see `FEW_STEPS`, `RECOMMENDED`);
    memory bounds `batch_size`. `dtype`: "auto" is half precision on a
    GPU and float32 on a CPU. `variant`: as hub repositories name files, e.g. "fp16". Captions are cut where the text
    encoder ends, for CLIP after 77 tokens. A picture that the model's safety checker refuses, or that comes out
    non-finite (with a warning), is returned black.
    """

    def __init__(
        self,
        path: str,
        *,
        settings: DrawingSettings | None = None,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        variant: str | None = None,
    ) -> None:
        settings = settings or DrawingSettings()
        check_settings(path, settings)
        self.path = path
        few = _recommended(path)
        self.steps = few[0] if settings.steps is None else settings.steps
        self.guidance = few[1] if settings.guidance is None else settings.guidance
        self.size = settings.height_width
        self.batch_size = settings.batch_size or BATCH
        self.negative_prompt = settings.negative_prompt
        self._validate(dtype)
        from kka.common.device import choose_device  # torch

        self.device = choose_device(device)
        self._dtype = _precision(dtype, self.device)
        self._pipeline = _load(path, self._dtype, revision=revision, variant=variant).to(self.device)
        self._pipeline.set_progress_bar_config(disable=True)
        self._arguments = self._pipeline_arguments()
        shaping = repr(
            [revision, variant, str(self._dtype), sorted(self._arguments.items()), self.negative_prompt]
        )
        content = f"{_fingerprint(path)}{shaping}".encode()
        self.identity = f"diffusers:{path}:{blake2b(content, digest_size=8).hexdigest()}"

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images:
        """(n, h, w, 3). For no captions: (0, h, w, 3) of `size`, or (0, 0, 0, 3) where that is not given."""
        images = [np.zeros((0, *(self.size or (0, 0)), 3), np.uint8)] if not captions else []
        for start in range(0, len(captions), self.batch_size):
            batch = slice(start, start + self.batch_size)
            images.append(self._draw_batch(list(captions[batch]), list(seeds[batch])))
        return np.concatenate(images)

    def _draw_batch(self, captions: list[str], seeds: list[int]) -> Images:
        import torch

        arguments = dict(self._arguments)
        if self.negative_prompt is not None:
            arguments["negative_prompt"] = [self.negative_prompt] * len(captions)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        try:
            with _quiet():
                made = self._pipeline(prompt=captions, generator=generators, output_type="pt", **arguments).images
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{self.identity}: expected room on {self.device} for {len(captions)} pictures at a time; got "
                f"{error}. Give a smaller batch_size or size."
            ) from error
        made = made.float().cpu()
        finite = made.isfinite().flatten(1).all(1)
        if not finite.all():
            warnings.warn(
                f"{self.path}: {int((~finite).sum())} of {len(captions)} pictures came out non-finite in "
                f"{self._dtype} and are set aside; try dtype='bfloat16' or 'float32'",
                stacklevel=3,
            )
            made[~finite] = 0
        return (made.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()

    def _validate(self, dtype: str) -> None:
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)

    def _pipeline_arguments(self) -> dict[str, Any]:
        """What the pipeline is called with, the captions and seeds apart."""
        height, width = self.size or (None, None)
        wanted = {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "height": height,
            "width": width,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        accepted = inspect.signature(self._pipeline.__call__).parameters
        refused = ({*given} | ({"negative_prompt"} if self.negative_prompt is not None else set())) - {*accepted}
        if refused:
            raise UserError(
                f"{self.path}: expected options that {type(self._pipeline).__name__} has; got "
                f"{', '.join(sorted(refused))}"
            )
        return given


def check(path: str, settings: DrawingSettings, revision: str | None = None) -> bool:
    """Whether the model is to be read from here alone. Nothing is loaded.

    Raises:
        UserError: settings that no pipeline has; a model that cannot be had.
    """
    check_settings(path, settings)
    return require_model(path, INDEX, what="image model", revision=revision)


def check_settings(path: str, settings: DrawingSettings) -> None:
    """Raises UserError for settings that no pipeline has, and for a size that none draws."""
    refuse_unknown(settings, SETTINGS, of=f"diffusers:{path}", group="drawing")
    size = settings.height_width
    if size is not None and any(side < SIDE or side % SIDE for side in size):
        raise UserError(f"drawing.size: expected multiples of {SIDE} pixels; got {size}")


def _recommended(path: str) -> tuple[int | None, float | None]:
    """(steps, guidance) that the model is made for; None: the pipeline's own."""
    file = Path(path).expanduser() / RECOMMENDED
    if not file.is_file():
        return next((few for word, few in FEW_STEPS.items() if word in Path(path).name.lower()), (None, None))
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return int(told["steps"]), float(told["guidance"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: expected JSON with steps and guidance; got {type(error).__name__}: {error}. Mend it, or "
            "remove it and give drawing.steps and drawing.guidance."
        ) from error


def trained_facts(spec: str) -> dict[str, Any] | None:
    """What an image model that kka trained says of its training: data, classes, settings. None for other models.

    Raises:
        UserError: the file that says it is damaged.
    """
    path = spec.removeprefix("diffusers:")
    file = Path(path).expanduser() / RECOMMENDED
    if path == spec or not file.is_file():
        return None
    facts = read_json(file).get("trained")
    return facts if isinstance(facts, dict) else None


def _precision(dtype: str, device: "torch.device") -> "torch.dtype":
    import torch

    if dtype == "auto":
        dtype = "float32" if device.type == "cpu" else "float16"
    chosen: torch.dtype = getattr(torch, dtype)
    return chosen


def _load(path: str, dtype: "torch.dtype", *, revision: str | None, variant: str | None) -> Any:
    try:
        from diffusers import AutoPipelineForText2Image
    except ImportError as error:
        raise UserError(f"diffusers:{path} needs the package diffusers: pip install 'kka[diffusers]'") from error
    folder = Path(path).expanduser()
    here = require_model(path, INDEX, what="image model", revision=revision)
    try:
        with _quiet():
            return AutoPipelineForText2Image.from_pretrained(
                str(folder) if folder.exists() else path,
                torch_dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=here,
                revision=revision,
                variant=variant,
            )
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"diffusers:{path}: expected a folder of a text-to-image pipeline with safetensors weights, or its id on "
            f"the Hugging Face hub; got {type(error).__name__}: {reason}. Check the name, the network and, for a "
            "gated model, `hf auth login`; without a network, download it elsewhere and give the folder."
        ) from error


def _fingerprint(path: str) -> str:
    """Changes when the files of a local model do: a picture of the old one must not be taken for one of the new."""
    folder = Path(path).expanduser()
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    return repr([(str(f.relative_to(folder)), f.stat().st_size, f.stat().st_mtime_ns) for f in files])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' notes on cut captions and progress of loading: there are thousands of captions."""
    from diffusers.utils import logging

    from kka.language.loading import no_progress_bars  # of transformers, whose text encoders most pipelines have

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with no_progress_bars():
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
