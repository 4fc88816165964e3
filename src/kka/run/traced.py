"""The control *traces* of a run: pictures with a network's ways of drawing and no anomaly.

Of models that alter photos: the normals of round 0's pictures, altered by nothing. Of those that draw: pictures of the
normals' own captions.
"""

import numpy as np
from jaxtyping import Int

from kka.algorithm.folder import RunFolder
from kka.algorithm.pool import AnomalyPool
from kka.algorithm.traces import draw_traces, leave_traces
from kka.common.cache import ImageCache
from kka.common.store import Store
from kka.imaging.diffusers import DiffusersModel
from kka.protocols import Alters, ImageModel, LeavesTraces
from kka.task import Task


def traced_by(model: ImageModel | Alters) -> bool:
    """Whether a run with it has traces."""
    return isinstance(model, LeavesTraces | DiffusersModel)


def trace(task: Task, model: ImageModel | Alters, *, store: Store, cache: ImageCache | None, seed: int) -> None:
    """As many traces as round 0 has pictures, as a stage of the run; nothing of models that leave none."""
    made = RunFolder(store.root)
    if isinstance(model, LeavesTraces):
        leave_traces(task, model, made.fresh(0), store=store)
    elif isinstance(model, DiffusersModel):
        draw_traces(task, model, made.images_made(0), store=store, cache=cache, seed=seed)


def untrained(traces: AnomalyPool, held: Int[np.ndarray, "n"]) -> AnomalyPool:
    """Without those of normals that were trained with; `held`: the others."""
    of = traces.normal_of
    return traces.take(np.flatnonzero((of < 0) | np.isin(of, held)).tolist())
