"""Pretrained feature extractors by timm. Wrong weights, keys or architectures are refused, never loaded in part."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kka.common.augment import IMAGENET_MEAN, IMAGENET_STD
from kka.common.device import cpu_randomness
from kka.common.numbers import require_finite_tensors
from kka.errors import UserError
from kka.seeding import derive_seed
from kka.settings.backbone import HUB, RANDOM, BackboneSettings


class Backbone(nn.Module):
    """Feature maps at the wanted strides: (b, 3, h, w) -> one (b, channels[i], ~h / strides[i], ~w / strides[i]) each.

    `mean`, `std`: how its input is normalised.
    """

    def __init__(
        self, network: nn.Module, channels: list[int], strides: list[int], mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:  # fmt: skip
        super().__init__()
        self.network = network
        self.channels, self.strides, self.mean, self.std = channels, strides, mean, std

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        maps: list[Tensor] = self.network(x)
        return maps


def load_backbone(settings: BackboneSettings, *, strides: Sequence[int], seed: int = 0, fetch: bool = True) -> Backbone:
    """The backbone in eval mode, cut after the last wanted stride.

    Args:
        strides: Of the feature maps, ascending: 4, 8 and 16 are layers 1 to 3 of a ResNet.
        seed: Of random weights.
        fetch: False leaves the weights random, for a caller who fills them from a saved detector.

    Raises:
        UserError: an unknown architecture or stride; weights that cannot be had, read, or that do not fit in every
            key and shape.
    """
    import timm

    kind: dict[str, Any] = {"pad_type": "same"} if settings.padding == "same" else {}
    source = settings.weights if fetch else RANDOM
    with cpu_randomness(derive_seed(seed, "backbone")):
        try:
            wanted = levels(settings.name, strides, kind)
            network = timm.create_model(
                settings.name, pretrained=source == HUB, features_only=True, out_indices=wanted, **kind
            )
        except UserError:
            raise
        except Exception as error:
            raise _explained(error, settings) from error
    if source not in (HUB, RANDOM):
        fill_weights(
            network, Path(source).expanduser(), settings,
            lambda: timm.create_model(settings.name, pretrained=False, **kind),
        )  # fmt: skip
    info: Any = network.feature_info
    return Backbone(network, info.channels(), info.reduction(), *normalisation(settings)).eval()


def normalisation(settings: BackboneSettings) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the input, of RGB in 0 to 1: as the settings say, else the architecture's by timm."""
    import timm

    config = timm.get_pretrained_cfg(settings.name.removeprefix("timm/"), allow_unregistered=True)
    mean = settings.mean or (tuple(config.mean) if config else IMAGENET_MEAN)
    std = settings.std or (tuple(config.std) if config else IMAGENET_STD)
    return _three(mean), _three(std)


def _three(values: tuple[float, ...]) -> tuple[float, ...]:
    return values * 3 if len(values) == 1 else values


def levels(name: str, strides: Sequence[int], kind: dict[str, Any]) -> tuple[int, ...]:
    """The numbers of a network's maps that have these strides."""
    import timm

    with torch.device("meta"):  # no memory, and no weights
        info: Any = timm.create_model(name, features_only=True, pretrained=False, **kind).feature_info
    reductions = info.reduction()
    if missing := [stride for stride in strides if stride not in reductions]:
        raise UserError(f"backbone {name}: expected strides among {reductions}; got {missing}")
    last = {reduction: index for index, reduction in enumerate(reductions)}
    return tuple(last[stride] for stride in strides)


def fill_weights(network: nn.Module, file: Path, settings: BackboneSettings, whole: Callable[[], nn.Module]) -> None:
    """The weights of the whole model from `file`, of which `network`, its features or itself, needs a part.

    Args:
        whole: Makes the whole model, of which the shapes are read.

    Raises:
        UserError: a file that cannot be read, or does not fit in every key and shape.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        tensors = load_file(file)
    except FileNotFoundError as error:
        raise UserError(f"backbone weights: expected a .safetensors file, hub or random; got {file}, which does not "
                        "exist") from error  # fmt: skip
    except (OSError, SafetensorError) as error:
        raise UserError(f"backbone weights: {file} cannot be read as safetensors: {error}") from error
    require_finite_tensors(tensors, f"backbone weights: {file}", "Copy or download the file anew")
    with torch.device("meta"):
        expected = whole().state_dict()
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    shapes = sorted(k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape)
    if missing or extra or shapes:
        said = [
            f"{what}: {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
            for what, keys in (("missing", missing), ("not of this model", extra), ("of another shape", shapes))
            if keys
        ]
        raise UserError(
            f"backbone weights: {file} does not hold the weights of {settings.name} ({'; '.join(said)}). "
            f"Name the architecture that the file was saved from."
        )
    lacking, _ = network.load_state_dict(tensors, strict=False)
    if lacking:  # a feature network whose names differ from the whole model's would stay random in part
        raise UserError(
            f"backbone {settings.name}: its feature network names {lacking[0]!r}, which {file} does not; take another"
        )


def _explained(error: Exception, settings: BackboneSettings) -> UserError:
    import timm

    name = settings.name.partition(".")[0].removeprefix("timm/")
    if not timm.is_model(name):
        near = timm.list_models(f"*{name[:8]}*")[:5]
        hint = f" Near: {', '.join(near)}." if near else ""
        return UserError(f"backbone: expected an architecture that timm knows; got {settings.name!r}.{hint}")
    if settings.padding and "pad_type" in str(error):
        return UserError(f"backbone padding: {settings.name} has no such option; leave --backbone.padding out")
    if settings.weights == HUB:
        return UserError(
            f"backbone: the weights of {settings.name} could not be downloaded ({type(error).__name__}: {error}). "
            f"Give a file: --backbone.name NAME --backbone.weights FILE.safetensors, or --backbone.weights random."
        )
    return UserError(f"backbone {settings.name}: {error}")
