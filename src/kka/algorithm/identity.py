"""Digests of a task: a resumed run must go on with the data that it was begun with."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from kka.task import Task

Digests = dict[str, dict[str, Any]]
"""Part of the task -> {"count": …, "digest": …}."""


def task_digests(task: Task) -> Digests:
    """Of all that a run's results depend on: decoded pixels, captions, labels. Order counts."""
    found = {
        "normals": _images(task.normals),
        "captions of the normals": _texts(task.captions),
        "what the pictures show": _texts([task.domain]),
    }
    if task.test is not None:
        found["test images"] = _images(task.test.images)
        if task.test.photos is not None:
            found["test photos"] = _texts(task.test.photos.digests)
        seen = [] if task.test.seen is None else np.asarray(task.test.seen).tolist()
        labels = [*map(str, np.asarray(task.test.is_anomaly).tolist()), *task.test.kinds, *map(str, seen)]
        found["labels of the test images"] = {**_texts(labels), "count": len(task.test.is_anomaly)}
    if task.knowledge is not None:
        found["known anomalies"] = _images(task.knowledge.images)
        found["captions of the known anomalies"] = _texts([repr(texts) for texts in task.knowledge.captions])
        found["classes of the known anomalies"] = _texts(task.knowledge.kinds)
    return found


def changes(begun: Digests, now: Digests) -> str:
    """A line for each part of the task that is not what it was; empty where all is."""
    lines = []
    for part in dict.fromkeys([*begun, *now]):
        old, new = begun.get(part), now.get(part)
        if old == new:
            continue
        counts = [0 if facts is None else int(facts["count"]) for facts in (old, new)]
        same = f"{counts[0]:,} as before, but not the same ones"
        lines.append(f"  {part}: " + (same if counts[0] == counts[1] else f"{counts[0]:,} then, {counts[1]:,} now"))
    return "\n".join(lines)


def _images(images: np.ndarray) -> dict[str, Any]:
    digest = hashlib.blake2b(repr(images.shape).encode(), digest_size=16)
    for image in images:  # one at a time: no copy of them all
        digest.update(np.ascontiguousarray(image).data)
    return {"count": len(images), "digest": digest.hexdigest()}


def _texts(texts: Iterable[str]) -> dict[str, Any]:
    digest, count = hashlib.blake2b(digest_size=16), 0
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)  # the length tells ("ab", "c") from ("a", "bc")
        count += 1
    return {"count": count, "digest": digest.hexdigest()}
