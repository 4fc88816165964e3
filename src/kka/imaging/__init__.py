"""Wing 2: image models (Eq. 4). A member is named by a short spec, and its library is imported when it is built.

To add one: write a class with `identity` and `draw` (see `kka.protocols.ImageModel`), and a line in `MEMBERS`.
"""

from collections.abc import Callable, Collection
from inspect import signature
from typing import Any

from kka.errors import UserError, unknown
from kka.protocols import ImageModel
from kka.task import Knowledge


def _diffusers(argument: str, **options: Any) -> ImageModel:
    from kka.imaging.diffusers import DiffusersModel

    return _built(DiffusersModel, "diffusers", argument, "a hub id or a folder", options)


def _openai(argument: str, **options: Any) -> ImageModel:
    from kka.imaging.openai import OpenAIImageModel

    return _built(OpenAIImageModel, "openai", argument, "a model's name", options)


def _garden(argument: str, **options: Any) -> ImageModel:
    from kka.imaging.garden import GardenModel

    if argument:
        raise UserError(f"image model: expected 'garden' with nothing after it; got 'garden:{argument}'")
    return _called(GardenModel, "garden", options)


def _bank(
    argument: str,
    *,
    knowledge: Knowledge | None,
    forbidden_hashes: Collection[str],
    **options: Any,
) -> ImageModel:
    from kka.imaging.bank import BankModel

    name = argument or "train"
    if name != "train":
        from kka.imaging.library import read_library

        knowledge = read_library(name, size=options.pop("size", None))
    elif knowledge is None:
        raise UserError(
            "image model 'bank': expected a data set with captioned training images of other classes; got none. "
            "Name a captioned library instead, as in bank:FOLDER."
        )
    return _called(
        BankModel,
        "bank",
        options,
        knowledge=knowledge,
        forbidden_hashes=forbidden_hashes,
        name=name,
    )


MEMBERS: dict[str, Callable[..., ImageModel]] = {
    "bank": _bank,
    "diffusers": _diffusers,
    "garden": _garden,
    "openai": _openai,
}
"""Name -> builder, called with what follows the colon of the spec and the member's own options."""


def build_image_model(
    spec: str,
    *,
    knowledge: Knowledge | None = None,
    forbidden_hashes: Collection[str] = frozenset(),
    **options: Any,
) -> ImageModel:
    """The image model that `spec` names.

    `garden`; `diffusers:<hub id or folder>`; `openai:<model>`; `bank` or `bank:train` (the pictures of `knowledge`)
    or `bank:<folder>` (the training images of a captioned data set; `forbidden_hashes`, of `pixel_hash`, names
    pictures to leave out, as those of a test set). `options` go to the member's constructor.
    Raises UserError for an unknown name or option, and for a model that cannot be loaded.
    """
    name, _, argument = spec.partition(":")
    if name not in MEMBERS:
        raise unknown("image model", spec, MEMBERS)
    if name == "bank":
        options |= {"knowledge": knowledge, "forbidden_hashes": forbidden_hashes}
    return MEMBERS[name](argument, **options)


def _built(member: type, name: str, argument: str, expected: str, options: dict[str, Any]) -> ImageModel:
    if not argument:
        raise UserError(f"image model: expected {expected} after '{name}:'; got nothing")
    return _called(member, name, options, argument)


def _called(member: type, kind: str, options: dict[str, Any], /, *fixed: Any, **more: Any) -> ImageModel:
    """The member, built; UserError for an option that its constructor does not have."""
    parameters = signature(member).parameters
    known = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY and p.name not in more]
    for option in options:
        if option not in known:
            raise unknown(f"option of image model {kind!r}", option, known or ["(it has none)"])
    return member(*fixed, **more, **options)
