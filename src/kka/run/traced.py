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


def parted(traces: AnomalyPool, held: Int[np.ndarray, "n"]) -> tuple[AnomalyPool, AnomalyPool]:
    """Those to train with as normals, and those to judge the detector by: by whether their normal is held out; of
    pictures of captions every second."""
    of = traces.normal_of
    learned = np.where(of < 0, np.arange(len(of)) % 2 == 0, ~np.isin(of, held))
    one, other = (traces.take(np.flatnonzero(rows).tolist()) for rows in (learned, ~learned))
    return one, other


def untrained(traces: AnomalyPool, held: Int[np.ndarray, "n"]) -> AnomalyPool:
    """Those to judge a detector by that trained with none: without those of normals that it trained with; `held`: the
    others."""
    of = traces.normal_of
    return traces.take(np.flatnonzero((of < 0) | np.isin(of, held)).tolist())
