"""Eq. 4 as a stage of a round: its pictures, drawn, looked up or altered, with their lineage, written to a folder."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kka.algorithm.altering import alter_pictures, choose_normals
from kka.algorithm.fitness import unfit
from kka.algorithm.folder import IMAGES, NORMALS, SET_ASIDE
from kka.algorithm.pictures import draw_pictures, unusable
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.algorithm.records import UnusablePicture, WrittenCaption
from kka.common.cache import ImageCache
from kka.common.files import write_records
from kka.common.ledger import Counts
from kka.common.mapped import taken
from kka.common.progress import Progress
from kka.common.workers import Copies
from kka.protocols import Alters, IgnoresWords, ImageModel, Images, ReadsDefects, RunsDry
from kka.seeding import derive_seed
from kka.settings.filters import Filter


@dataclass(frozen=True, kw_only=True)
class Making:
    """What the pictures of round `number` are made with."""

    model: ImageModel | Alters
    number: int
    language_model: str
    """What names the one that wrote the captions."""
    cache: ImageCache | None
    progress: Progress
    copies: Copies | None = None
    """Of the model on other machines, which draw in its place."""

    def draw(
        self, captions: Sequence[WrittenCaption], taken: frozenset[str], size: tuple[int, ...], folder: Path
    ) -> Counts:
        """From nothing, or looked up. A library that is drained in a later round gives what it has left."""
        model, shown = self.model, captions
        assert isinstance(model, ImageModel)
        if self.number and isinstance(model, RunsDry):
            left = min(len(captions), model.left(taken))
            shown = [captions[i] for i in np.linspace(0, len(captions) - 1, left).round().astype(int)]
        before = model.ignored_words if isinstance(model, IgnoresWords) else 0
        drawn = draw_pictures(
            model, [written.caption for written in shown], seeds=[written.seed for written in shown], taken=taken,
            cache=self.cache, size=(size[0], size[1]), progress=self.progress, copies=self.copies,
        )  # fmt: skip
        entries = [self._lineage(i, shown[i], key) for i, key in zip(drawn.kept, drawn.keys, strict=True)]
        AnomalyPool(tuple(entries), drawn.images).save(folder / IMAGES)
        _write_set_aside(folder, shown, dict(drawn.set_aside))
        return {
            "images": len(entries), "drawn": drawn.drawn, "from_cache": drawn.from_cache,
            "set_aside": len(drawn.set_aside), "not_drawn": len(captions) - len(shown),
            "ignored_words": model.ignored_words - before if isinstance(model, IgnoresWords) else None,
        }  # fmt: skip

    def alter(
        self,
        captions: Sequence[WrittenCaption],
        normals: Images,
        members: Mapping[str, np.ndarray],
        filters: Collection[Filter],
        folder: Path,
    ) -> Counts:
        """Each caption on one of the normals, of the cluster whose representative prompted it (`members`), without
        what is not fit to train with."""
        model = self.model
        assert isinstance(model, Alters)
        ignored = model.ignored_words if isinstance(model, IgnoresWords) else 0
        prompts, seeds = [written.prompt for written in captions], [written.seed for written in captions]
        chosen = choose_normals(prompts, members, len(normals), seeds=[derive_seed(s, "normal") for s in seeds])
        before = taken(normals, chosen)
        made = alter_pictures(
            model, before, [written.caption for written in captions], seeds=seeds, cache=self.cache,
            progress=self.progress, copies=self.copies,
        )  # fmt: skip
        blank = {i: why for i, image in enumerate(made.images) if (why := unusable(image))}
        reasons = unfit(before, made.images, made.masks, chosen, filters) | blank
        kept = [i for i in range(len(captions)) if i not in reasons]
        entries = [self._lineage(i, captions[i], made.keys[i], normal=chosen[i]) for i in kept]
        AnomalyPool(tuple(entries), taken(made.images, kept), taken(made.masks, kept)).save(folder / IMAGES)
        used = sorted({chosen[i] for i in kept})
        with (folder / NORMALS).open("wb") as file:
            np.savez_compressed(file, index=np.array(used, np.int64), images=taken(normals, used))
        _write_set_aside(folder, captions, reasons)
        return {
            "images": len(entries), "drawn": made.made, "from_cache": len(captions) - made.made,
            "set_aside": len(reasons), "not_drawn": 0,
            "ignored_words": model.ignored_words - ignored if isinstance(model, IgnoresWords) else None,
            "unread_captions": _unread(model, captions),
        }  # fmt: skip

    def _lineage(self, index: int, written: WrittenCaption, key: str, normal: int | None = None) -> Lineage:
        """Of the picture of the round's caption `index`."""
        return Lineage(
            id=f"r{self.number}-{index:05d}", round=self.number, language_model=self.language_model,
            image_model=self.model.identity, key=key, normal=normal, **dataclasses.asdict(written),
        )  # fmt: skip


def _unread(model: Alters, captions: Sequence[WrittenCaption]) -> int | None:
    """Captions that name no defect that the model knows; None: it does not say. The cache makes no difference."""
    if not isinstance(model, ReadsDefects):
        return None
    return sum(not model.reads(written.caption) for written in captions)


def _write_set_aside(folder: Path, captions: Sequence[WrittenCaption], reasons: Mapping[int, str]) -> None:
    """Which pictures cannot be used, in the order of their captions."""
    rows = [UnusablePicture(caption=captions[i].caption, reason=reasons[i]) for i in sorted(reasons)]
    write_records(folder / SET_ASIDE, rows)
