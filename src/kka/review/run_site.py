"""What the page of a run asks for, and what it is told."""

from functools import partial
from typing import Any

from kka.algorithm.reviews import REASONS, Choice, Decision
from kka.errors import UserError
from kka.review.album import KINDS, Album
from kka.review.server import PAGE, Query, Site


def run_site(album: Album) -> Site:
    """The page on which a person looks through an album."""

    def say(row: dict[str, Any]) -> dict[str, Any]:
        album.say(Decision(**row) if "id" in row else Choice(**row))
        return {"counts": album.reviews.counts()}

    return Site(
        page="run.html",
        files=("shared.js", "run.js", "page.css"),
        data={"about": partial(_about, album), "pictures": partial(_pictures, album), "pair": partial(_pair, album)},
        pictures={
            "image": partial(album.image, small=False), "thumbnail": partial(album.image, small=True),
            "normal": album.normal, "outline": album.outline,
        },
        say=say,
    )  # fmt: skip


def _about(album: Album, _: Query) -> dict[str, Any]:
    return {"run": album.root.resolve().name, "rounds": album.rounds, "kinds": KINDS, "reasons": REASONS,
            "pictures": len(album.shown), "counts": album.reviews.counts(), "page": PAGE}  # fmt: skip


def _pictures(album: Album, query: Query) -> dict[str, Any]:
    number = int(query["round"]) if query.get("round") else None
    kind, words, start = query.get("kind", "all"), query.get("words", ""), max(0, int(query.get("start", 0)))
    if kind not in KINDS:
        raise UserError(f"review: expected a kind among {', '.join(KINDS)}; got {kind!r}")
    if kind == "set aside":
        rows = album.set_aside(number=number, words=words)
        return {"total": len(rows), "aside": rows[start : start + PAGE], "pictures": []}
    found = album.find(number=number, kind=kind, words=words)
    return {"total": len(found), "aside": [], "pictures": [album.told(one) for one in found[start : start + PAGE]]}


def _pair(album: Album, query: Query) -> dict[str, Any]:
    skipped = [frozenset(text.split("|")) for text in query.get("skipped", "").split(",") if text]
    found = album.pair(skipped)
    return {"pair": None if found is None else [album.told(one) for one in found]}
