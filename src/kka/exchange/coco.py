"""COCO: `annotations.json` with polygons around what was altered, made from the masks, and `images/`.

One category, "anomaly"; a picture's annotations are the parts of its mask. A pixel counts where the defect covers half
of it, or, in a mask that has no such pixel, any of it.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from kka.common.progress import Progress
from kka.errors import UserError
from kka.exchange.source import Exported, Mask, row
from kka.exchange.target import write_pictures
from kka.imaging.polygons import polygons

COVERED = 128
CATEGORY = {"id": 1, "name": "anomaly", "supercategory": "anomaly"}


def write(exported: Exported, folder: Path, progress: Progress) -> dict[str, Any]:
    """Both.

    Raises:
        UserError: pictures without masks.
    """
    if not exported.masks:
        raise UserError(
            f"pool: COCO needs masks, and the pictures of {exported.run} have none: its image model "
            f"({exported.models['images']}) draws pictures whole. A model that alters the normals has masks; "
            f"--to imagefolder, huggingface and anomalib need none."
        )
    write_pictures(exported, folder / "images", progress)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    height, width = exported.pool.images.shape[1:3]
    for number, entry in enumerate(exported.pool.entries, start=1):
        images.append({"id": number, "file_name": f"{entry.id}.png", "width": width, "height": height,
                       "caption": entry.caption, "kka": row(entry)})  # fmt: skip
        if entry.id in exported.masks:
            for found in annotations_of(exported.masks[entry.id]):
                annotations.append({"id": len(annotations) + 1, "image_id": number, **found})
    info = {"description": f"Imagined anomalies: the pool of {exported.run} after round {exported.round}",
            "date_created": f"{datetime.now():%Y/%m/%d}", "contributor": "kka", **exported.facts}  # fmt: skip
    whole = {"info": info, "licenses": [], "images": images, "annotations": annotations, "categories": [CATEGORY]}
    (folder / "annotations.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    return {"annotations": len(annotations)}


def annotations_of(mask: Mask) -> list[dict[str, Any]]:
    """One for each part of a mask; none of an empty one."""
    covered = mask >= COVERED
    covered = covered if covered.any() else mask > 0
    found = []
    for outline in polygons(covered):
        points = np.array(outline).reshape(-1, 2)
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        found.append({
            "category_id": 1, "iscrowd": 0, "segmentation": [outline], "area": _area(points),
            "bbox": [float(left), float(top), float(right - left), float(bottom - top)],
        })  # fmt: skip
    return found


def _area(points: np.ndarray) -> float:
    """In pixels, by the shoelace formula."""
    x, y = points.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
