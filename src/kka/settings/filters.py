"""The filters of altered pictures, by name. What each asks stands in `kka.algorithm.fitness`."""

from typing import Literal

Filter = Literal["outside", "visible", "duplicate", "typical"]
"""outside: nothing is changed outside of the mask. visible: the defect shows. duplicate: no other picture of the same
normal shows the same. typical: the evaluator does not place it among the most typical normals."""
ALL: tuple[Filter, ...] = ("outside", "visible", "duplicate", "typical")
