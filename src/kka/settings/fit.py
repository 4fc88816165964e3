"""How a photo of any shape becomes a square, by name. What each does to the pixels stands in `kka.common.pixels`."""

from typing import Literal

Fit = Literal["squash", "pad", "crop"]
"""squash: both sides are scaled, each as it needs. pad: scaled as a whole, and grey is put beside it. crop: the largest
central square, and what lies beyond it is lost."""
