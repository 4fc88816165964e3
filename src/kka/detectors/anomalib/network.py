"""A model of anomalib as a Lightning module, and as one module from pixels to scores."""

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from operator import attrgetter
from typing import Any
from unittest import mock

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kka.common.own import from_texts
from kka.detectors.anomalib.models import PREFIX, Model
from kka.detectors.anomalib.settings import AnomalibSettings
from kka.detectors.anomalib.weights import weights_of
from kka.detectors.backbones import levels, normalisation
from kka.detectors.graph import Preprocess
from kka.errors import UserError, unknown
from kka.settings.backbone import BackboneSettings

OURS = ("pre_processor", "post_processor", "evaluator", "visualizer")
"""Arguments of every constructor that are not the person's: kka prepares images, and judges scores."""
STRIDES = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}
"""Of a ResNet's layers, as anomalib's defaults name them."""


def package() -> Any:
    """`anomalib.models`, imported without what it says meanwhile.

    Raises:
        UserError: it is not installed.
    """
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import anomalib.models
    except ImportError as error:
        if (error.name or "").partition(".")[0] != PREFIX:
            raise UserError(f"detector: anomalib cannot be imported: {error}. Install it anew: "
                            "pip install 'kka[anomalib]'") from error  # fmt: skip
        raise UserError(
            "detector: anomalib's models need the package anomalib; pip install 'kka[anomalib]'"
        ) from error
    return anomalib.models


def version() -> str:
    """Of anomalib."""
    found: str = import_module(PREFIX).__version__
    return found


def arguments_of(model: Model, options: tuple[str, ...], *, of: str) -> dict[str, Any]:
    """The person's arguments for the model's constructor, from texts "name=value".

    Raises:
        UserError: one that the constructor does not take, with those that it does; a value that does not fit.
    """
    kind = getattr(package(), model.kind)
    known = [name for name in inspect.signature(kind).parameters if name not in OURS]
    known += [*model.besides, *(f.name for f in dataclasses.fields(AnomalibSettings) if f.name != "options")]
    for text in options:
        if (name := text.partition("=")[0]) not in known:
            raise unknown(f"setting of {of}", name, known)
    given = from_texts(kind, options, of=of)
    for name in {"layer", "layers"} & given.keys():  # names, or numbers of a network's maps
        found = given[name]
        given[name] = [_number(layer) for layer in found] if isinstance(found, list | tuple) else _number(found)
    return given


def _number(layer: Any) -> Any:
    return int(layer) if str(layer).isdecimal() else layer


def prepare_of(model: Model, size: int | None, backbone: BackboneSettings | None) -> Preprocess:
    """How images become the model's input: as by anomalib's default, at `size`, and normalised as the backbone wants.

    Raises:
        UserError: a size that is too small.
    """
    from torchvision.transforms.v2 import CenterCrop, Normalize, Resize

    made = getattr(package(), model.kind).configure_pre_processor()
    steps = getattr(made.transform, "transforms", [made.transform])
    usual = crop = 256
    mean: Sequence[float] = (0.0,) * 3
    std: Sequence[float] = (1.0,) * 3
    for step in steps:
        if isinstance(step, Resize):
            usual = crop = step.size[0]
        elif isinstance(step, CenterCrop):
            crop = step.size[0]
        elif isinstance(step, Normalize):
            mean, std = (step.mean, step.std) if backbone is None else normalisation(backbone)
    side = size or usual
    if round(side * crop / usual) < model.smallest:
        least = math.ceil(model.smallest * usual / crop)
        raise UserError(f"size: expected at least {least} for this model; got {side}")
    return Preprocess(side, crop=round(side * crop / usual), mean=tuple(mean), std=tuple(std))


def build(
    model: Model, arguments: Mapping[str, Any], prepare: Preprocess, backbone: BackboneSettings | None, *, of: str,
    fetch: bool = True,
) -> Any:  # fmt: skip
    """The Lightning module, untrained.

    Args:
        fetch: False leaves its pretrained weights random, for a caller who fills them from a saved detector.

    Raises:
        UserError: arguments, sizes or a backbone that anomalib does not take; weights that cannot be had.
    """
    from anomalib.pre_processing import PreProcessor
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    kind = getattr(package(), model.kind)
    module = import_module(kind.__module__)
    steps: list[Any] = [Resize((prepare.crop, prepare.crop), antialias=True)]
    mean, std = prepare.mean.flatten().tolist(), prepare.std.flatten().tolist()
    if any(mean):
        steps.append(Normalize(mean=mean, std=std))
    given = _by_backbone(model, kind, arguments, prepare, backbone)
    besides = {name: given.pop(name) for name in model.besides if name in given}
    names = [model.network, *(str(given.get(name, _usual(kind, name))) for name in model.names)]
    try:
        with ExitStack() as others:
            holder = import_module(kind.__module__.replace("lightning_model", "torch_model"))
            others.enter_context(weights_of(backbone, names, holder, fetch=fetch))
            if not fetch and hasattr(module, "download_and_extract"):
                others.enter_context(mock.patch.object(module, "download_and_extract"))
            # what it is told of sizes and normalisation is true of what it gets, which is prepared already
            made = kind(**given, pre_processor=PreProcessor(Compose(steps)), **dict.fromkeys(OURS[1:], False))
        for name, value in besides.items():
            owner, _, attribute = model.besides[name].rpartition(".")
            setattr(attrgetter(owner)(made), attribute, float(value))
    except UserError:
        raise
    except Exception as error:
        raise explained(error, of, model) from error
    made.pre_processor = None
    return made


def _by_backbone(
    model: Model, kind: Any, arguments: Mapping[str, Any], prepare: Preprocess, backbone: BackboneSettings | None
) -> dict[str, Any]:
    """The arguments, with those that follow from the backbone where the person says nothing of them, and with folders
    of anomalib's cache where its own defaults lie in the folder that you are in."""
    from anomalib.utils.path import get_datasets_dir

    given = {name: get_datasets_dir() / folder for name, folder in model.folders.items()} | dict(arguments)
    if backbone is not None:
        given = dict.fromkeys(model.names, backbone.name) | given
    named = given.get(model.names[0], _usual(kind, model.names[0])) if model.names else None
    usual = (_usual(kind, model.layers) or model.usual_layers) if model.layers else None
    if usual is None or named is None:
        return given
    layers = [usual] if isinstance(usual, str) else list(usual)
    if backbone is not None and model.layers not in given:
        kept = levels(named, [STRIDES[layer] for layer in layers], {})
        given[model.layers] = kept[0] if isinstance(usual, str) else list(kept)
    if model.kind == "Padim" and backbone is not None and "n_features" not in given:
        given["n_features"] = min(100, sum(channels_of(named, given.get("layers", layers))))
    if model.kind == "Fre" and "input_dim" not in given:
        side = math.ceil(prepare.crop / STRIDES[layers[0]]) // given.get("pooling_kernel_size", 2)
        given["input_dim"] = sum(channels_of(named, [given.get("layer", usual)])) * side**2
    return given


def channels_of(name: str, layers: list[Any]) -> list[int]:
    """Of a timm network's layers, by their numbers or names."""
    import timm

    with torch.device("meta"):
        info: Any = timm.create_model(name, features_only=True, pretrained=False).feature_info
    modules = info.module_name()
    return [info.channels()[layer if isinstance(layer, int) else modules.index(layer)] for layer in layers]


def _usual(kind: Any, name: str) -> Any:
    return inspect.signature(kind).parameters[name].default


def explained(error: Exception, of: str, model: Model) -> UserError:
    """anomalib's error, with what a person can do."""
    first = (str(error).strip() or "no reason given").splitlines()[0]
    said = f"{type(error).__name__}: {first}"
    if isinstance(error, OSError) or type(error).__module__.startswith(("huggingface_hub", "requests", "httpx")):
        do = "Give a file: --backbone.name NAME --backbone.weights FILE.safetensors, or --backbone.weights random"
        if model.needs:
            do = f"It needs {model.needs}"
        elif not model.names:
            do = "Its backbone is fixed; download its weights on a machine with a network"
        return UserError(f"{of}: its weights or files could not be had ({said}). {do}.")
    return UserError(f"{of}: anomalib refuses this: {said}")


def make_room(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Buffers that grow as a bank is filled get the shape of those in `tensors`; parameters stay as they are."""
    for name, buffer in dict(module.named_buffers()).items():
        stored = tensors.get(name)
        if stored is not None and stored.shape != buffer.shape:
            owner, _, own = name.rpartition(".")
            setattr(module.get_submodule(owner), own, torch.empty(stored.shape, dtype=stored.dtype))


class Graph(nn.Module):
    """Pixels (b, h, w, 3) -> scores (b,), higher = more anomalous."""

    def __init__(self, prepare: Preprocess, model: nn.Module) -> None:
        super().__init__()
        self.prepare, self.model = prepare, model

    def forward(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b"]:
        found = self.model(self.prepare(pixels).contiguous())
        scores = found.pred_score
        if scores is None:  # as anomalib's own post-processor does
            scores = found.anomaly_map.flatten(1).amax(dim=1)
        return scores.reshape(pixels.shape[0])

    def maps(self, pixels: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b g g"]:
        """At the size of the model's input."""
        found = self.model(self.prepare(pixels).contiguous()).anomaly_map
        return found.reshape(pixels.shape[0], *found.shape[-2:])
