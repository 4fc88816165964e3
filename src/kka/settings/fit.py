"""How a photo of any shape becomes squares, by name. `kka.common.pixels` and `kka.common.tiles` do it."""

from typing import Literal

Fit = Literal["squash", "pad", "crop", "tile"]
"""squash: both sides are scaled, each as it needs. pad: scaled as a whole, and grey is put beside it. crop: the largest
central square, and what lies beyond it is lost. tile: nothing is scaled; the photo is cut into overlapping squares."""
