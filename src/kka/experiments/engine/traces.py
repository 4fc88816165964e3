"""The control `traces`: what a pool's image model draws of the normals' own captions, or leaves of normals that it
alters by nothing, kept with the pool.

A detector that calls such pictures anomalous goes by how the image model draws, not by what it shows.
"""

from collections.abc import Sequence

from kka.algorithm.folder import RunFolder
from kka.algorithm.pool import AnomalyPool
from kka.algorithm.traces import draw_traces, leave_traces
from kka.common.cache import ImageCache
from kka.common.own import is_class_path, own_class
from kka.errors import UserError
from kka.experiments.engine.cells import Cell, claim
from kka.experiments.engine.leaks import check_images
from kka.experiments.engine.place import Place
from kka.experiments.engine.pools import BusyError, ensure_pool, open_pool, pool_config
from kka.experiments.engine.tasks import dataset
from kka.imaging import IMAGE_MODELS, OWN
from kka.protocols import ImageModel, LeavesTraces
from kka.run.models import build_images, resolve
from kka.task import Task

LEAVE_NONE = ("bank", "paint")
"""Image models that have no picture of a normal, or change nothing but what a defect covers."""


def draws(name: str, loop: Sequence[str]) -> bool:
    """Whether the image model of a data set's pools, with these settings of the loop, draws pictures with traces.

    Raises:
        UserError: a class of a person's own that cannot be had.
    """
    given = [text.removeprefix("images=") for text in loop if text.startswith("images=") and text != "images=auto"]
    if not given:
        return dataset(name).embedded
    spec = given[-1]
    if is_class_path(spec, IMAGE_MODELS):
        kind = own_class(spec, OWN)
        return any(callable(getattr(kind, method, None)) for method in ("draw", "traces"))
    return spec.partition(":")[0] not in LEAVE_NONE


def with_traces(cell: Cell) -> bool:
    """Whether the detector of a cell is asked about traces, beside its test."""
    return cell.trained_with.kind in ("rep", "add") and draws(cell.dataset, cell.variant.split(","))


def ensure_traces(cell: Cell, task: Task, place: Place) -> AnomalyPool:
    """As many as the first generation of the cell's pool, drawn now if they are not stored with it.

    Raises:
        BusyError: another process is making the pool, or at it.
        UserError: the image model leaves none; a leak.
    """
    if not draws(cell.dataset, cell.variant.split(",")):
        raise UserError("arm traces: expected an image model that draws, which leaves traces (--loop images=…); got "
                        f"{cell.variant or 'the bank of ' + cell.dataset}")  # fmt: skip
    out = ensure_pool(cell, task, place.data, place.work)
    made = RunFolder(out)
    if not made.has_traces:
        config = pool_config(cell, place.data, place.work)
        with claim(place.work / "claims", str(out)) as mine:
            if not mine:
                raise BusyError(str(out))
            with open_pool(cell, out, place.data, place.work) as store:
                model = build_images(resolve(config, task)[1], config, task)
                if isinstance(model, LeavesTraces):
                    leave_traces(task, model, made.fresh(0), store=store)
                else:
                    assert isinstance(model, ImageModel)
                    draw_traces(task, model, made.images_made(0), store=store, cache=ImageCache(), seed=config.seed)
    traces = made.traces()
    check_images(task, {"the pictures of the normals' captions": traces.images})
    return traces
