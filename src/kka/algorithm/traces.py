"""Pictures with all an image model's ways of drawing and no anomaly: of normals' captions, or altered by nothing."""

import dataclasses
from pathlib import Path

import numpy as np

from kka.algorithm.folder import IMAGES, TRACES
from kka.algorithm.pictures import draw_pictures
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.common.cache import ImageCache, picture_key
from kka.common.ledger import Counts
from kka.common.mapped import taken
from kka.common.store import Store
from kka.errors import UserError
from kka.protocols import ImageModel, LeavesTraces
from kka.seeding import derive_seed
from kka.task import Task


def draw_traces(
    task: Task, image_model: ImageModel, count: int, *, store: Store, cache: ImageCache | None, seed: int
) -> None:
    """Draw `count` pictures of the normals' captions in turn, as a stage of the run in `store`.

    Those that show nothing are left out. `kka.algorithm.folder.RunFolder.traces` reads them.
    """
    captions = [task.captions[i % len(task.captions)] for i in range(count)]
    seeds = [derive_seed(seed, "traces", i) for i in range(count)]

    def compute(folder: Path) -> Counts:
        drawn = draw_pictures(image_model, captions, seeds=seeds, cache=cache, size=task.normals.shape[1:3])
        entries = tuple(
            Lineage(
                id=f"t-{i:05d}", round=0, prompt="", caption=captions[i], seed=seeds[i], language_model="",
                image_model=image_model.identity, key=key,
            )
            for i, key in zip(drawn.kept, drawn.keys, strict=True)
        )  # fmt: skip
        AnomalyPool(entries, drawn.images).save(folder / IMAGES)
        return {"images": len(entries), "drawn": drawn.drawn, "from_cache": drawn.from_cache}

    store.stage(TRACES, compute)


def leave_traces(task: Task, model: LeavesTraces, pool: AnomalyPool, *, store: Store) -> None:
    """The normals of a pool's pictures altered by nothing, each in its picture's mask, as a stage of a run.

    A picture and its trace have the same normal, the same mask and the same edges: they differ in the defect alone.

    Raises:
        UserError: pictures that are no altered normals.
    """
    masks, which = pool.masks, [entry.normal for entry in pool.entries]
    if masks is None or any(normal is None for normal in which):
        raise UserError("traces: expected pictures that are altered normals, with masks; got some drawn whole")
    normals = taken(task.normals, np.array(which, int))

    def compute(folder: Path) -> Counts:
        entries = tuple(
            dataclasses.replace(
                entry, id=f"t-{i:05d}", prompt="", caption=task.captions[entry.normal or 0], language_model="",
                key=picture_key("traces", entry.key, 0), history=(),
            )
            for i, entry in enumerate(pool.entries)
        )  # fmt: skip
        AnomalyPool(entries, model.traces(normals, masks), masks).save(folder / IMAGES)
        return {"images": len(entries), "drawn": len(entries), "from_cache": 0}

    store.stage(TRACES, compute)
