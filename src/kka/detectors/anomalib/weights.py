"""The weights that a model of anomalib's looks through: those of kka's settings in the place of a download.

anomalib makes its backbone by name, by `timm.create_model` or a function of torchvision's, and can be told of no file.
So these functions are others while a model is built (docs/private-parts.md).
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from torch import nn

from kka.detectors.backbones import fill_weights
from kka.errors import UserError
from kka.settings.backbone import HUB, RANDOM, BackboneSettings


@contextmanager
def weights_of(
    settings: BackboneSettings | None, names: Collection[str], holder: Any, *, fetch: bool
) -> Iterator[None]:
    """What is built in the block gets its backbone's weights as `settings` say; None: as anomalib does.

    Args:
        names: Of networks that the model looks through; functions of torchvision may be among them.
        holder: The model's module, which may hold such a function itself.
        fetch: False leaves all weights random, for a caller who fills them from a saved detector.

    Raises:
        UserError: weights that cannot be had or do not fit; no network of the name that the settings say was asked for.
    """
    import timm
    import torchvision

    asked: list[str] = []
    architecture = "" if settings is None else settings.name.removeprefix("timm/").partition(".")[0]
    real = timm.create_model

    def made(name: str, pretrained: bool, make: Callable[..., nn.Module], whole: Callable[..., nn.Module]) -> nn.Module:
        """`make(pretrained, …)`, and the file's weights where weights were wanted; `whole`: with its last layers."""
        asked.append(name)
        if settings is None or name.partition(".")[0] != architecture:
            return make(pretrained and fetch)
        kind = {"pad_type": "same"} if settings.padding == "same" else {}
        wanted = settings.weights if pretrained and fetch else RANDOM
        network = make(wanted == HUB, **kind)
        if wanted not in (HUB, RANDOM):
            fill_weights(network, Path(wanted).expanduser(), settings, lambda: whole(**kind))
        return network

    def of_timm(model_name: str, pretrained: bool = False, **rest: Any) -> nn.Module:
        def make(pretrained: bool, **kind: Any) -> nn.Module:
            return real(model_name, pretrained=pretrained, **rest, **kind)

        return made(model_name, pretrained, make, lambda **kind: real(model_name, pretrained=False, **kind))

    def of_torchvision(name: str) -> Callable[..., nn.Module]:
        function = getattr(torchvision.models, name)

        def other(*, weights: Any = None) -> nn.Module:
            def make(pretrained: bool, **kind: Any) -> nn.Module:
                return function(weights=weights if pretrained else None, **kind)

            return made(name, weights is not None, make, function)

        return other

    with ExitStack() as others:
        others.enter_context(mock.patch.object(timm, "create_model", of_timm))
        for name in names:
            if callable(getattr(torchvision.models, name, None)):
                other = of_torchvision(name)
                for place in (torchvision.models, holder):
                    if hasattr(place, name):
                        others.enter_context(mock.patch.object(place, name, other))
        yield
    if settings is not None and architecture not in [name.partition(".")[0] for name in asked]:
        raise UserError(f"backbone: this model looks through {', '.join(dict.fromkeys(asked)) or 'no network'} alone; "
                        f"got {settings.name}. Leave --backbone out, or name that.")  # fmt: skip
