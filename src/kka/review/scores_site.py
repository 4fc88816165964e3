"""What the page of a detector's scores asks for, and what it is told."""

from collections.abc import Callable
from functools import partial
from typing import Any

from kka.common.folder_words import GOOD
from kka.common.walk import printable
from kka.deploy.marks import SAID
from kka.errors import UserError
from kka.protocols import Localises
from kka.review.scored import KINDS, LARGE, ORDERS, THUMBNAIL, ScoredPhotos, finite
from kka.review.server import PAGE, Query, Site


def scores_site(scored: ScoredPhotos) -> Site:
    """The page on which a person looks through scores, marks what is wrong, and chooses a threshold."""

    def say(row: dict[str, Any]) -> dict[str, Any]:
        if "id" in row:
            threshold = row.get("threshold")
            scored.mark(row["id"], row["said"], None if threshold is None else finite(threshold))
            return {"marked": scored.marked()}
        threshold = row["choose"]
        scored.choose(None if threshold is None else finite(threshold))
        return _thresholds(scored)

    return Site(
        page="scores.html",
        files=("shared.js", "scores.js", "page.css"),
        data={"about": partial(_about, scored), "photos": partial(_photos, scored)},
        pictures={
            "image": _numbered(partial(scored.image, side=LARGE)),
            "thumbnail": _numbered(partial(scored.image, side=THUMBNAIL)),
            "heat": _numbered(partial(scored.heat, side=LARGE)),
            "heat-thumbnail": _numbered(partial(scored.heat, side=THUMBNAIL)),
        },
        say=say,
    )


def _numbered(picture: Callable[[int], bytes | None]) -> Callable[[str], bytes | None]:
    return lambda name: picture(int(name)) if name.isascii() and name.isdigit() and len(name) < 10 else None


def _about(scored: ScoredPhotos, _: Query) -> dict[str, Any]:
    calibration = scored.kept.calibration
    labelled = [(one.photo.score, one.label.kind == GOOD) for one in scored.shown if one.label is not None]
    return {
        "detector": printable(str(scored.kept.folder)), "name": scored.kept.name, "marks": str(scored.file),
        "localises": isinstance(scored.kept.detector, Localises), "kinds": KINDS, "orders": ORDERS, "said": SAID,
        "page": PAGE, "scores": sorted(scored.scores.tolist()),
        "good": sorted(score for score, good in labelled if good),
        "bad": sorted(score for score, good in labelled if not good),
        "held_out": [] if calibration is None else calibration.scores, "marked": scored.marked(),
        "set_aside": len(scored.set_aside), **_thresholds(scored),
    }  # fmt: skip


def _thresholds(scored: ScoredPhotos) -> dict[str, Any]:
    """The detector's own, and what a person chose in its place."""
    calibration, chosen = scored.kept.calibration, scored.chosen
    return {
        "threshold": scored.threshold,
        "own": None if calibration is None else {**calibration.figures},
        "chosen": None if chosen is None else {"threshold": chosen.threshold, "told": chosen.told},
    }  # fmt: skip


def _photos(scored: ScoredPhotos, query: Query) -> dict[str, Any]:
    kind, order, words = query.get("kind", KINDS[0]), query.get("order", ORDERS[0]), query.get("words", "")
    start = max(0, int(query.get("start", 0)))
    for name, value, known in (("kind", kind, KINDS), ("order", order, ORDERS)):
        if value not in known:
            raise UserError(f"review: expected {name} among {', '.join(known)}; got {value!r}")
    if kind == "set aside":
        rows = [{"name": item.path, "reason": item.reason} for item in scored.set_aside]
        return {"total": len(rows), "aside": rows[start : start + PAGE], "photos": []}
    threshold = finite(query["threshold"]) if query.get("threshold") else None
    found = scored.find(kind=kind, order=order, words=words, threshold=threshold)
    return {"total": len(found), "aside": [], "photos": [scored.told(one) for one in found[start : start + PAGE]]}
