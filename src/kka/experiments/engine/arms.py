"""The arms of an experiment: what a detector is trained with beside the normals."""

from dataclasses import dataclass
from typing import Literal

from kka.common.labels import ARM_LABELS
from kka.errors import UserError
from kka.experiments.engine.choices import CHOICES

Mode = Literal["rep", "add"]
CONTROLS = ARM_LABELS
"""Arms that need no pool -> as people read them. All but `none` are as many as the first generation."""
TRACES = "traces"
"""Pictures of the normals' own captions by the pool's image model, labelled anomalous: as many as the first generation.
What they teach is how the image model draws."""
OF_A_POOL: dict[str, Mode] = {"rep": "rep", "add": "add", "first": "rep", "any": "add", "real": "add"}
"""Arms with a number -> the mode of the pool that they need."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """none, noise, other, real, traces; rep-<r>, add-<r>: the pool after round r; first-<n>: the first n of round 0.

    Controls of add-<r>, with as many images as it has: any-<r>, the first generation and random ones of what rounds 1
    to r drew; real-<r>, real images. And the names of `CHOICES`: of everything that the rounds in mode rep generated.
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
        if name in CONTROLS or name in CHOICES or name == TRACES:
            return cls(kind=name)
        kind, _, number = name.partition("-")
        if kind in OF_A_POOL and number.isdigit():
            return cls(kind=kind, number=int(number))
        numbered = [f"{kind}-<{'n' if kind == 'first' else 'round'}>" for kind in OF_A_POOL]
        raise UserError(f"arm: expected {', '.join([*CONTROLS, TRACES, *numbered, *CHOICES])}; got {name!r}")

    @property
    def needs_pool(self) -> bool:
        """Whether its anomalies come from a pool, or from the pool's image model."""
        return self.number is not None or self.kind not in CONTROLS

    @property
    def round(self) -> int | None:
        """The round whose pool it takes, or is as large as; None of the others."""
        return 0 if self.kind == "first" else self.number

    @property
    def mode(self) -> Mode:
        """Of its pool. Before any round the two are one."""
        return OF_A_POOL[self.kind] if self.round else "rep"

    @property
    def title(self) -> str:
        """As people read it."""
        if self.kind in CHOICES:
            return CHOICES[self.kind].title
        if self.kind == TRACES:
            return "pictures of the normals' own captions"
        if self.number is None:
            return CONTROLS[self.kind]
        return {
            "first": f"first generation, {self.number}",
            "any": f"KKA ({self.number}), random ones added",
            "real": f"random real images, as many as KKA ({self.number}), add",
        }.get(self.kind, f"KKA ({self.number}), {self.kind}")
