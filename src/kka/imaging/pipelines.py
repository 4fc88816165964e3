"""A pipeline of diffusers, found, checked and loaded: its class, its precision, what it does for a small GPU.

Weights are safetensors, and no remote code runs. On a GPU nothing of this has been run here: half precision, offload,
quantisation and compiled blocks follow the library's documented use.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kka.common.hub import require_model
from kka.errors import UserError, unknown
from kka.imaging.arguments import call_arguments
from kka.imaging.pipeline_class import Job, pipeline_class
from kka.imaging.pipeline_files import INDEX, Files
from kka.imaging.published import made_for
from kka.settings import refuse_unknown
from kka.settings.drawing import DrawingSettings

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float16", "bfloat16", "float32")
SIDE = 8
"""Heights and widths are multiples of this: one cell of the usual latent space, in pixels."""
SHAPING = ("4bit", "8bit", "vae-tiling")
"""What of `DrawingSettings.economy` makes other pictures; the rest makes the same in another time or memory."""


@dataclass(kw_only=True)
class LoadedPipeline:
    """A pipeline on its device, and what it is called with."""

    pipeline: Any
    path: str
    device: "torch.device"
    dtype: "torch.dtype"
    arguments: dict[str, Any]
    """Of each call, the captions, pictures and seeds apart."""
    negative_prompt: str | None
    identity: str
    """Names the model and all that shapes its pictures."""
    steps: int | None
    """None, as with `guidance`: the pipeline's own."""
    guidance: float | None

    @property
    def takes(self) -> Mapping[str, Parameter]:
        """What a call takes, by name."""
        return signature(self.pipeline.__call__).parameters

    def identity_with(self, *more: object) -> str:
        """The identity of a model whose pictures depend on `more` as well."""
        return f"{self.identity}:{blake2b(repr(more).encode(), digest_size=8).hexdigest()}"


def check_pipeline(job: Job, path: str, settings: DrawingSettings, revision: str | None = None) -> None:
    """What is wrong with the settings, or with the model as far as its index tells. No weights are loaded.

    Raises:
        UserError: settings that the pipeline does not have; a model that cannot be had.
    """
    check_settings(job, path, settings)
    here = require_model(path, INDEX, what="image model", revision=revision)
    _require_diffusers(job, path)
    files = Files(path, here=here, revision=revision)
    if files.class_name:
        _called_with(job, path, files, settings)


def check_settings(job: Job, path: str, settings: DrawingSettings) -> None:
    """Raises UserError for settings that no pipeline of this job has, and for a size that none draws."""
    refuse_unknown(settings, job.settings, of=f"{job.name}:{path}", group="drawing")
    size = settings.height_width
    if size is not None and any(side < SIDE or side % SIDE for side in size):
        raise UserError(f"drawing.size: expected multiples of {SIDE} pixels; got {size}")
    if {"4bit", "8bit"} <= {*settings.economy}:
        raise UserError("drawing.economy: expected one of 4bit and 8bit; got both")


def open_pipeline(
    job: Job,
    path: str,
    settings: DrawingSettings,
    *,
    device: str,
    dtype: str,
    revision: str | None,
    variant: str | None,
) -> LoadedPipeline:
    """The pipeline at `path` for a job, on its device.

    Args:
        dtype: "auto" is float32 on a CPU; on a GPU bfloat16 where it has that, else float16, and float32 for
            pipelines with a transformer, which give black pictures or NaN in float16.
        variant: As hub repositories name files, e.g. "fp16".

    Raises:
        UserError: as `check_pipeline`; weights that cannot be loaded.
    """
    check_settings(job, path, settings)
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    _require_diffusers(job, path)
    from kka.common.device import choose_device  # torch

    files = Files(path, here=require_model(path, INDEX, what="image model", revision=revision), revision=revision)
    arguments, negative, (steps, guidance) = _called_with(job, path, files, settings)
    chosen = choose_device(device)
    precision = _precision(dtype, chosen, transformer="transformer" in files.index)
    more = {"quantization_config": _quantisation(settings, files, precision)} if _quantises(settings) else {}
    pipeline = _load(job, path, files, precision, variant=variant, **more)
    pipeline.set_progress_bar_config(disable=True)
    pipeline = _economise(pipeline, settings, chosen)
    shaping: list[Any] = [revision, variant, str(precision), sorted(arguments.items()), negative]
    if made_otherwise := sorted({*settings.economy} & {*SHAPING}):
        shaping.append(made_otherwise)
    content = f"{files.fingerprint}{shaping!r}".encode()
    return LoadedPipeline(
        pipeline=pipeline, path=path, device=chosen, dtype=precision, arguments=arguments, negative_prompt=negative,
        identity=f"{job.name}:{path}:{blake2b(content, digest_size=8).hexdigest()}", steps=steps, guidance=guidance,
    )  # fmt: skip


def _called_with(
    job: Job, path: str, files: Files, settings: DrawingSettings
) -> tuple[dict[str, Any], str | None, tuple[int | None, float | None]]:
    """(arguments, negative prompt, (steps, guidance)), checked against the signature of the pipeline's class."""
    steps, guidance = made_for(files)
    steps = steps if settings.steps is None else settings.steps
    guidance = guidance if settings.guidance is None else settings.guidance
    kind = pipeline_class(job, path, files.class_name)
    arguments, negative = call_arguments(job, path, kind, settings, steps=steps, guidance=guidance)
    return arguments, negative, (steps, guidance)


def _require_diffusers(job: Job, path: str) -> None:
    try:
        import diffusers  # noqa: F401
    except ImportError as error:
        raise UserError(f"{job.name}:{path} needs the package diffusers: pip install 'kka[diffusers]'") from error


def _precision(dtype: str, device: "torch.device", *, transformer: bool) -> "torch.dtype":
    import torch

    from kka.common.device import has_bf16

    if dtype == "auto" and device.type == "cpu":
        dtype = "float32"
    elif dtype == "auto" and device.type == "cuda" and has_bf16(device):
        dtype = "bfloat16"
    elif dtype == "auto":
        dtype = "float32" if transformer else "float16"
    chosen: torch.dtype = getattr(torch, dtype)
    return chosen


def _quantises(settings: DrawingSettings) -> bool:
    return bool({"4bit", "8bit"} & {*settings.economy})


def _quantisation(settings: DrawingSettings, files: Files, dtype: "torch.dtype") -> Any:
    """What diffusers takes to quantise the denoiser and the large text encoders as it loads them."""
    bits = "4bit" if "4bit" in settings.economy else "8bit"
    if find_spec("bitsandbytes") is None:
        raise UserError(
            f"drawing.economy {bits}: expected the package bitsandbytes, which quantises on a GPU; it is not "
            "installed. pip install 'kka[4bit]'"
        )
    from diffusers import PipelineQuantizationConfig

    kwargs: dict[str, Any] = {f"load_in_{bits}": True}
    if bits == "4bit":
        kwargs |= {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
    large = ("transformer", "unet", "text_encoder", "text_encoder_2")
    parts: list[str] = [name for name in large if name in files.index]
    return PipelineQuantizationConfig(
        quant_backend=f"bitsandbytes_{bits}", quant_kwargs=kwargs, components_to_quantize=parts
    )


def _load(job: Job, path: str, files: Files, dtype: "torch.dtype", *, variant: str | None, **more: Any) -> Any:
    folder = Path(path).expanduser()
    try:
        with quiet():
            return pipeline_class(job, path, files.class_name).from_pretrained(
                str(folder) if folder.exists() else path,
                torch_dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=files.here,
                revision=files.revision,
                variant=variant,
                **more,
            )
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{job.name}:{path}: expected a folder of {job.what} with safetensors weights, or its id on "
            f"the Hugging Face hub; got {type(error).__name__}: {reason}. Check the name, the network and, for a "
            "gated model, `hf auth login`; without a network, download it elsewhere and give the folder."
        ) from error


def _economise(pipeline: Any, settings: DrawingSettings, device: "torch.device") -> Any:
    """The pipeline on its device, or offloaded from it, with what else `DrawingSettings.economy` asks for."""
    wanted = {*settings.economy}
    vae = getattr(pipeline, "vae", None)
    for name, method in (("vae-slicing", "enable_slicing"), ("vae-tiling", "enable_tiling")):
        if name in wanted:
            if not hasattr(vae, method):
                raise UserError(f"drawing.economy {name}: {type(pipeline).__name__} has no autoencoder that can do so")
            getattr(vae, method)()
    if "compile" in wanted:
        denoiser: Any = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
        if not getattr(denoiser, "_repeated_blocks", None):
            raise UserError(f"drawing.economy compile: {type(denoiser).__name__} names no repeated blocks to compile")
        denoiser.compile_repeated_blocks()
    if "offload" not in wanted:
        return pipeline.to(device)
    if device.type == "cpu":
        raise UserError("drawing.economy offload: expected a GPU, from which parts are moved to the CPU; got cpu")
    pipeline.enable_model_cpu_offload(device=device)
    return pipeline


@contextmanager
def quiet() -> Iterator[None]:
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
