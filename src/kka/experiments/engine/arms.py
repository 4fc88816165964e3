"""The arms of an experiment: what a detector is trained with beside the normals."""

from dataclasses import dataclass
from typing import Literal

from kka.common.labels import ARM_LABELS
from kka.errors import UserError

Mode = Literal["rep", "add"]
CONTROLS = ARM_LABELS
"""Arms that need no pool -> as people read them. Noise and real images are as many as the first generation."""
OF_A_POOL: dict[str, Mode] = {"rep": "rep", "add": "add", "first": "rep", "any": "add", "real": "add"}
"""Arms with a number -> the mode of the pool that they need."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """none, noise, real; rep-<r>, add-<r>: the pool after round r; first-<n>: the first n images of round 0.

    Controls of add-<r>, with as many images as it has: any-<r>, the first generation and random ones of what rounds 1
    to r drew; real-<r>, real images.
    """

    kind: str
    number: int | None = None
    """r or n."""

    @classmethod
    def named(cls, name: str) -> "Arm":
        """The arm of a stored row or a cell: "rep-2".

        Raises:
            UserError: no such arm.
        """
        kind, dash, number = name.partition("-")
        if not dash and kind in CONTROLS:
            return cls(kind=kind)
        if kind in OF_A_POOL and number.isdigit():
            return cls(kind=kind, number=int(number))
        known = ", ".join([*CONTROLS, *(f"{kind}-<{'n' if kind == 'first' else 'round'}>" for kind in OF_A_POOL)])
        raise UserError(f"arm: expected {known}; got {name!r}")

    @property
    def round(self) -> int | None:
        """The round of its pool; None for the controls without one."""
        return 0 if self.kind == "first" else self.number

    @property
    def mode(self) -> Mode:
        """Of its pool. Before any round the two are one."""
        return OF_A_POOL[self.kind] if self.round else "rep"

    @property
    def title(self) -> str:
        """As people read it."""
        if self.number is None:
            return CONTROLS[self.kind]
        return {
            "first": f"first generation, {self.number}",
            "any": f"KKA ({self.number}), random ones added",
            "real": f"random real images, as many as KKA ({self.number}), add",
        }.get(self.kind, f"KKA ({self.number}), {self.kind}")
