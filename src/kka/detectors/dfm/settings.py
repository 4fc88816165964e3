"""DFM's settings."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, MinLen

from kka.errors import UserError
from kka.settings import MAX_SIDE, Natural, NonNegative, Share, Side, Text, settings


@settings()
class DFMSettings:
    """How DFM prepares images and what it keeps of the normals. The defaults are those of anomalib's DFM."""

    size: Side = 256
    """Pixels a side after resizing."""
    crop: Side = 256
    """Pixels a side of the centre that the backbone sees."""
    stride: Annotated[int, Ge(1), Le(MAX_SIDE)] = 16
    """Of the backbone's map."""
    pools: Annotated[tuple[Annotated[int, Ge(1), Le(MAX_SIDE)], ...], MinLen(1)] = (4,)
    """Places of the map, a side, that are put together (their mean), ascending: for each, the map has a subspace of \
its own, and a score is of all. Fine ones are strict about places, coarse ones about what a photo shows."""
    map_pool: Annotated[int, Ge(1), Le(MAX_SIDE)] = 4
    """The same, of the subspace that heat maps are of."""
    variance: Annotated[float, Gt(0), Le(1)] = 0.97
    """Share of the normals' variance that a subspace keeps."""
    most: Annotated[int, Ge(1), Le(20_000)] = 4000
    """Normals, and anomalies, that a subspace is made of at most, a random choice: memory grows with its square."""
    anomaly_directions: Natural = 16
    """Directions of what the normals' subspace leaves of the anomalies, the strongest, that are kept."""
    anomaly_weight: NonNegative = 2.0
    """How much of a photo's error along these directions counts beside the whole of it."""
    mask_from: Share = 0.1
    """Share of a place that the mask of an anomaly must cover for the place to teach, where masks are known."""
    device: Text = "auto"

    def __post_init__(self) -> None:
        if self.crop > self.size:
            raise UserError(f"crop: expected at most size, {self.size}; got {self.crop}")
        if list(self.pools) != sorted(set(self.pools)):
            raise UserError(f"pools: expected ascending numbers; got {self.pools}")

    @property
    def poolings(self) -> tuple[int, ...]:
        """Those of scores, and that of maps where it is another, ascending."""
        return tuple(sorted({*self.pools, self.map_pool}))
