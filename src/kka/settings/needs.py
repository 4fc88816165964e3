"""What a piece of work on a cluster asks of the machine that does it."""

from typing import Annotated

from annotated_types import Ge, Le

from kka.settings import settings


@settings("needs")
class Needs:
    """With --ray: what each piece of work is given of the machine that does it."""

    cpus: Annotated[int, Ge(1), Le(1024)] = 1
    """Cores, and so the threads of a cell or a model. (Detectors of a run have as many as on one machine.)"""
    gpus: Annotated[float, Ge(0), Le(64)] = 0.0
    """GPUs, or the share of one: 0.25 puts four pieces on each. 0: the GPUs are not used."""
