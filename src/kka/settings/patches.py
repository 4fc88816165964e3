"""What the settings of every detector of patches say, and what must hold among them."""

from typing import Protocol, runtime_checkable

from kka.errors import UserError


@runtime_checkable
class CropSettings(Protocol):
    """How large a network sees images: the centre `crop` of `size` pixels a side."""

    @property
    def size(self) -> int: ...

    @property
    def crop(self) -> int: ...


@runtime_checkable
class PatchSettings(CropSettings, Protocol):
    """What the settings of every detector of patches say."""

    @property
    def strides(self) -> tuple[int, ...]: ...

    @property
    def dimension(self) -> int: ...


def require_fitting(settings: PatchSettings) -> None:
    """Raises UserError for sizes, strides and a dimension that do not go together."""
    if settings.crop > settings.size:
        raise UserError(f"crop: expected at most size, {settings.size}; got {settings.crop}")
    if list(settings.strides) != sorted(set(settings.strides)):
        raise UserError(f"strides: expected ascending numbers; got {settings.strides}")
    if settings.dimension % len(settings.strides):
        raise UserError(
            f"dimension: expected a multiple of the number of strides, {len(settings.strides)}; got "
            f"{settings.dimension}"
        )
