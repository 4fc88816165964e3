"""What the folders of scored files say of them, and a detector's figures on those that are labelled so."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kka.common.folder_words import GOOD, role_of
from kka.common.inspection import Row, inspect
from kka.common.masks import read_mask
from kka.common.pixel_metrics import count_pixels
from kka.common.progress import Progress
from kka.common.tiles import MAP_SIDE
from kka.data.layout import Place, read_layout
from kka.deploy.score import Row as ScoredRow
from kka.deploy.score import maps_of_files
from kka.deploy.stored import StoredDetector
from kka.errors import UserError
from kka.protocols import Localises


@dataclass(frozen=True, kw_only=True)
class Label:
    """What the folders say of a file."""

    kind: str
    """GOOD, or the kind of defect."""
    masks: tuple[Path, ...]


def labels_of(named: Sequence[Path]) -> dict[Path, Label]:
    """Resolved file -> what the named folders say of it; files of which they say nothing are not there.

    Normal and anomalous are words of `kka.common.folder_words`; in a folder for tests, what is not normal is anomalous,
    as in MVTec AD. Training photos are left out: a detector knows them.
    """
    found: dict[Path, Label] = {}
    for folder in named:
        if not folder.is_dir():
            continue
        tested = role_of(folder.resolve().name).split == "test"
        root = folder.resolve().parent if tested and _has_masks(folder.resolve().parent) else folder.resolve()
        try:
            layout = read_layout(root)
        except UserError:  # no photo, which scoring says
            continue
        for path, place in layout.places.items():
            kind = _kind(place, tested)
            if kind is not None:
                found[layout.files[path].resolve()] = Label(kind=kind, masks=layout.mask_files(path))
    return found


def _has_masks(folder: Path) -> bool:
    return any(role_of(inner.name).label == "mask" for inner in folder.iterdir() if inner.is_dir())


def _kind(place: Place, tested: bool) -> str | None:
    if place.split in ("train", "val") or len(place.labels) > 1:
        return None
    if "normal" in place.labels:
        return GOOD
    anomalous = "anomalous" in place.labels or ((tested or place.split == "test") and place.folders)
    return place.kind if anomalous else None


def inspect_files(
    kept: StoredDetector,
    rows: Sequence[ScoredRow],
    named: Sequence[Path],
    *,
    localising: bool,
    progress: Progress | None = None,
) -> list[Row]:
    """The figures of scored files, where the named folders say what they are; empty where they name no anomaly.

    Args:
        localising: Those of pixels as well, for which the photos are read and judged once more.
    """
    labels = labels_of(named)
    labelled = [(row, labels[row.file.resolve()]) for row in rows if row.file.resolve() in labels]
    is_anomaly = np.array([label.kind != GOOD for _, label in labelled], bool)
    if not is_anomaly.any():
        return []
    scores = np.array([row.score for row, _ in labelled], np.float32)
    known = ~is_anomaly | np.array([bool(label.masks) for _, label in labelled])
    pixels = None
    if localising and isinstance(kept.detector, Localises) and (known & is_anomaly).any():
        localises = kept.detector
        files = [row.file for row, _ in labelled]
        side = MAP_SIDE if kept.fit == "tile" else kept.size

        def maps(positions: np.ndarray) -> Iterable[np.ndarray]:
            return maps_of_files(localises, kept, [files[i] for i in positions])

        def masks(positions: np.ndarray) -> Iterator[np.ndarray | None]:
            for i in positions:
                marked = labelled[i][1].masks
                mask = read_mask(marked, files[i], side, kept.fit) if marked else None
                known[i] &= mask is not None or not marked
                yield mask
                if progress is not None:
                    progress(int(i) + 1, len(files))

        if progress is not None:
            progress(0, len(files))

        pixels = count_pixels(len(files), maps, masks)
    kinds = [label.kind for _, label in labelled]
    return inspect(scores, is_anomaly, kinds, threshold=kept.threshold, pixels=pixels, known=known)
