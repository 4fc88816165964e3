"""Pictures that an image model draws of the normals' own captions: no anomalies, but with all its ways of drawing."""

from pathlib import Path

from kka.algorithm.folder import IMAGES, TRACES
from kka.algorithm.pictures import draw_pictures
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.common.cache import ImageCache
from kka.common.ledger import Counts
from kka.common.store import Store
from kka.protocols import ImageModel
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
