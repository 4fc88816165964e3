"""Image models (Eq. 4). A member is named by a short spec, and its library is imported when it is built.

To add one of kka's: write a class with `identity` and `draw` (see `kka.protocols.ImageModel`), or `alter` (`Alters`),
and a line in `IMAGE_MODELS`. A person's own has no line there: its spec is its path, package.module:Class
(`kka.common.own`).
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

from kka.common.members import build_member
from kka.common.own import HOW, Family, is_class_path
from kka.common.own_model import build_own, check_own
from kka.errors import UserError, unknown
from kka.protocols import Alters, ImageModel, Images
from kka.settings import refuse_own, refuse_unknown
from kka.settings.drawing import DrawingSettings
from kka.settings.fit import Fit
from kka.task import Knowledge


def _diffusers(argument: str, **options: Any) -> ImageModel:
    from kka.imaging.diffusers import DiffusersModel

    return _built(DiffusersModel, "diffusers", argument, "a hub id or a folder", options)


def _openai(argument: str, **options: Any) -> ImageModel:
    from kka.imaging.openai import OpenAIImageModel

    return _built(OpenAIImageModel, "openai", argument, "a model's name", options)


def _garden(argument: str, *, settings: DrawingSettings, **options: Any) -> ImageModel:
    from kka.imaging.garden import GardenModel

    if argument:
        raise UserError(f"image model: expected 'garden' with nothing after it; got 'garden:{argument}'")
    refuse_unknown(settings, (), of="garden", group="drawing")
    model: ImageModel = build_member(GardenModel, "image model garden", options)
    return model


def _bank(
    argument: str, *, settings: DrawingSettings, knowledge: Knowledge | None, forbidden_hashes: Collection[str],
    fit: Fit, **options: Any,
) -> ImageModel:  # fmt: skip
    from kka.imaging.bank import SETTINGS, BankModel

    name = argument or "train"
    if name != "train":
        from kka.imaging.library import read_library

        refuse_unknown(settings, (*SETTINGS, "size"), of=f"bank:{name}", group="drawing")
        if isinstance(settings.size, tuple):
            raise UserError(f"drawing.size: bank:{name} keeps squares: expected one number; got {settings.size}")
        knowledge = read_library(name, size=settings.size, fit=fit)
        settings = dataclasses.replace(settings, size=None)
    elif knowledge is None:
        raise UserError(
            "image model 'bank': expected a data set with captioned training images of other classes; got none. "
            "Name a captioned library instead, as in bank:FOLDER."
        )
    options |= {"settings": settings, "forbidden_hashes": forbidden_hashes, "name": name}
    model: ImageModel = build_member(BankModel, "image model bank", options, knowledge)
    return model


def _paint(
    argument: str, *, settings: DrawingSettings, subject: str, normals: Images | None, **options: Any
) -> Alters:
    from kka.imaging.paint.painter import Paint

    if argument:
        raise UserError(f"image model: expected 'paint' with nothing after it; got 'paint:{argument}'")
    refuse_unknown(settings, (), of="paint", group="drawing")
    model: Alters = build_member(Paint, "image model paint", {"subject": subject, "others": normals, **options})
    return model


IMAGE_MODELS: dict[str, Callable[..., ImageModel | Alters]] = {
    "bank": _bank,
    "diffusers": _diffusers,
    "garden": _garden,
    "openai": _openai,
    "paint": _paint,
}
"""Name -> builder, called with what follows the colon of the spec, settings, and the member's own options."""
OWN = Family(
    what="image model", members=IMAGE_MODELS.keys(), needs=("draw or alter",), example="examples/own_image_model.py"
)  # fmt: skip
"""What a class named by its path must have, beside its `identity`."""


def build_image_model(
    spec: str,
    *,
    settings: DrawingSettings | None = None,
    knowledge: Knowledge | None = None,
    forbidden_hashes: Collection[str] = frozenset(),
    fit: Fit = "crop",
    subject: str = "",
    normals: Images | None = None,
    **options: Any,
) -> ImageModel | Alters:
    """The image model that `spec` names.

    `garden`; `diffusers:<hub id or folder>`; `openai:<model>`; package.module:Class, a person's own, which gets the
    settings that its constructor takes; `bank` or `bank:train` (the pictures of `knowledge`) or `bank:<folder>` (the
    training images of a captioned data set; `forbidden_hashes`, of `pixel_hash`, names pictures to leave out, as those
    of a test set; `fit`: how its pictures become squares, which must be as those did); `paint`, which alters normals
    (`subject`: what they show, as a caption says it; `normals`: from which a changed texture may come).
    `options` go to the member's constructor.
    Raises UserError for an unknown name, a setting or option that the member does not have, and for a model that
    cannot be loaded.
    """
    if is_class_path(spec, IMAGE_MODELS):
        return _own(spec, settings or DrawingSettings())
    refuse_own(settings, of=spec, group="drawing")
    name, argument = _parts(spec)
    if name == "bank":
        options |= {"knowledge": knowledge, "forbidden_hashes": forbidden_hashes, "fit": fit}
    if name == "paint":
        options |= {"subject": subject, "normals": normals}
    return IMAGE_MODELS[name](argument, settings=settings or DrawingSettings(), **options)


def check_image_model(spec: str, *, settings: DrawingSettings) -> None:
    """What is wrong with a spec or its settings shows here, before anything is loaded.

    Raises:
        UserError: as `build_image_model`; a model or a library that cannot be had.
    """
    if is_class_path(spec, IMAGE_MODELS):
        check_own(spec, OWN, settings=settings, group="drawing")
        return
    refuse_own(settings, of=spec, group="drawing")
    name, argument = _parts(spec)
    if name in ("openai", "garden", "paint"):  # nothing is loaded or asked
        build_image_model(spec, settings=settings)
    elif name == "diffusers":
        from kka.imaging.diffusers import DiffusersModel, check

        if not argument:
            _built(DiffusersModel, name, argument, "a hub id or a folder", {})
        check(argument, settings)
    elif name == "bank":
        from kka.imaging.bank import SETTINGS

        folder = argument not in ("", "train")
        refuse_unknown(settings, (*SETTINGS, "size") if folder else SETTINGS, of=spec, group="drawing")
        if folder:
            from kka.imaging.library import library_folder

            library_folder(argument)


def _own(spec: str, settings: DrawingSettings) -> ImageModel | Alters:
    model: ImageModel | Alters = build_own(spec, OWN, settings=settings, group="drawing")
    if not isinstance(getattr(model, "identity", None), str):
        raise UserError(
            f"image model {spec}: expected an identity, a text that names the model and all that shapes its pictures, "
            f"as they are cached under it; got {getattr(model, 'identity', None)!r}. {OWN.example} shows one."
        )
    return model


def _parts(spec: str) -> tuple[str, str]:
    """The member and what stands after the colon."""
    name, colon, argument = spec.partition(":")
    if name not in IMAGE_MODELS:
        raise unknown("image model", spec, IMAGE_MODELS, also=HOW)
    if name == "bank" and colon and not argument:  # an unset variable of a script
        raise UserError("image model: expected a folder after 'bank:', or bank alone for the data's own; got nothing")
    return name, argument


def _built(member: type, name: str, argument: str, expected: str, options: dict[str, Any]) -> ImageModel:
    if not argument:
        raise UserError(f"image model: expected {expected} after '{name}:'; got nothing")
    model: ImageModel = build_member(member, f"image model {name}", options, argument)
    return model
