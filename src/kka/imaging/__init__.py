"""Image models (Eq. 4). A member is named by a short spec, and its library is imported when it is built.

To add one of kka's: write a class with `identity` and `draw` (see `kka.protocols.ImageModel`), or `alter` (`Alters`),
and a line in `IMAGE_MODELS`. A person's own has no line there: its spec is its path, package.module:Class
(`kka.common.own`).
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from kka.common.members import build_member
from kka.common.own import HOW, Family, is_class_path
from kka.common.own_model import build_own, check_own
from kka.errors import UserError, unknown
from kka.protocols import Alters, ImageModel, Images
from kka.settings import refuse_own, refuse_unknown
from kka.settings.drawing import DrawingSettings
from kka.settings.fit import Fit
from kka.task import Knowledge

if TYPE_CHECKING:
    from kka.imaging.pipeline_class import Job


def _diffusers(argument: str, **options: Any) -> ImageModel:
    from kka.imaging.diffusers import DiffusersModel

    model: ImageModel = _built(DiffusersModel, "diffusers", argument, "a hub id or a folder", options)
    return model


def _inpaint(argument: str, *, subject: str, **options: Any) -> Alters:
    from kka.imaging.inpaint import Inpaint

    model: Alters = _built(Inpaint, "inpaint", argument, "a hub id or a folder", {"subject": subject, **options})
    return model


def _img2img(argument: str, **options: Any) -> Alters:
    from kka.imaging.img2img import Img2Img

    model: Alters = _built(Img2Img, "img2img", argument, "a hub id or a folder", options)
    return model


def _edit(argument: str, **options: Any) -> Alters:
    from kka.imaging.edit import Edit

    model: Alters = _built(Edit, "edit", argument, "a hub id or a folder", options)
    return model


def _openai(argument: str, **options: Any) -> ImageModel:
    from kka.imaging.openai import OpenAIImageModel

    model: ImageModel = _built(OpenAIImageModel, "openai", argument, "a model's name", options)
    return model


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
    "edit": _edit,
    "garden": _garden,
    "img2img": _img2img,
    "inpaint": _inpaint,
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
    (`subject`: what they show, as a caption says it; `normals`: from which a changed texture may come), and so do
    `inpaint:<hub id or folder>`, `img2img:<…>` and `edit:<…>`, by diffusers.
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
    if name in ("paint", "inpaint"):
        options |= {"subject": subject}
    if name == "paint":
        options |= {"normals": normals}
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
    elif name in ("diffusers", "inpaint", "img2img", "edit"):
        _require_argument(name, argument, "a hub id or a folder")
        from kka.imaging.pipelines import check_pipeline

        check_pipeline(_job(name), argument, settings)
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


def _job(name: str) -> "Job":
    """What a pipeline is wanted for."""
    from kka.imaging.diffusers import DRAW
    from kka.imaging.edit import EDIT
    from kka.imaging.img2img import REDRAW
    from kka.imaging.inpaint import INPAINT

    return {job.name: job for job in (DRAW, INPAINT, REDRAW, EDIT)}[name]


def _require_argument(name: str, argument: str, expected: str) -> None:
    if not argument:
        raise UserError(f"image model: expected {expected} after '{name}:'; got nothing")


def _built(member: type, name: str, argument: str, expected: str, options: dict[str, Any]) -> Any:
    _require_argument(name, argument, expected)
    return build_member(member, f"image model {name}", options, argument)
