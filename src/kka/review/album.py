"""The pictures of a run, to look through: by round, hard or easy, vetoed, set aside, by words; and pairs to compare.

Pictures stay in memory as the run stored them, compressed, and are unpacked when they are looked at.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kka.algorithm.folder import IMAGES, TASK, TASK_ARRAYS, RunFolder
from kka.algorithm.hardness import is_hard
from kka.algorithm.pool import Lineage, read_lineage
from kka.algorithm.reviews import REVIEWS, Choice, Decision, Reviews, append, read_reviews
from kka.common.disk import reading
from kka.errors import UserError
from kka.report.altered import outlined

THUMBNAIL = 128
"""Pixels a side, at most, of a picture in the grid."""
KINDS = ("all", "hard", "easy", "unjudged", "vetoed", "reviewed", "open", "set aside")
"""What the filter knows: "open" is what nothing was said of; "set aside" was drawn and cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture with what is known of it."""

    entry: Lineage
    relative: float | None
    """Relative distance at its last judgement; None: not judged yet."""
    in_pool: bool

    @property
    def hard(self) -> bool | None:
        return None if self.relative is None else bool(is_hard(np.array([self.relative]))[0])


class Album:
    """All that a run drew so far, and all that was said of it."""

    def __init__(self, root: Path) -> None:
        """
        Raises:
            UserError: no run in `root`, or one that has drawn nothing yet.
        """
        self.root, self.folder = root, RunFolder(root)
        if not self.folder.begun:
            raise UserError(f"review: expected the directory of a kka run; there is none in {root}")
        if not self.folder.drawn(0):
            raise UserError(f"review: {root} has no pictures yet; go on with: kka run --out {root} --resume")
        self.rounds = 1
        while self.folder.drawn(self.rounds):
            self.rounds += 1
        self.shown = {one.entry.id: one for one in self._all()}
        self.reviews: Reviews = read_reviews(root / REVIEWS)
        self._files = [self._pngs(number) for number in range(self.rounds)]
        names = [table["id"].to_pylist() for table in self._files]
        self._places = {name: (number, i) for number, mine in enumerate(names) for i, name in enumerate(mine)}
        self._normals = self._normals_of_prompts()
        self._altered = [self.folder.altered_normals(number) for number in range(self.rounds)]

    def _all(self) -> list[Shown]:
        last = self.folder.last_judgements(self.rounds)  # the next round may have judged, and drawn nothing yet
        pool = {entry.id for entry in self.folder.lineage(self.folder.last_round)}
        entries = [e for number in range(self.rounds) for e in read_lineage(self.folder.file(number, "images", IMAGES))]
        relative = {name: distance for name, (_, distance) in last.items()}
        return [Shown(entry=e, relative=relative.get(e.id), in_pool=e.id in pool) for e in entries]

    def _pngs(self, number: int) -> Any:
        """The compressed pictures of a round, in the order of its entries."""
        import pyarrow.parquet as pq

        file = self.folder.file(number, "images", IMAGES)
        with reading(file):
            names = {"image", "id", "mask"} & set(pq.read_schema(file).names)
            return pq.read_table(file, columns=sorted(names))

    def _normals_of_prompts(self) -> dict[str, bytes]:
        """Prompt -> the PNG of the normal whose caption is in it, where the run has stored it."""
        file = self.root / TASK / TASK_ARRAYS
        if not file.is_file():
            return {}
        with reading(file), np.load(file) as arrays:
            images = arrays["representatives"] if "representatives" in arrays.files else ()  # of an older run
        rows = self.folder.representatives()
        return {row.prompt: png(Image.fromarray(images[i])) for i, row in enumerate(rows) if i < len(images)}

    def find(self, *, number: int | None, kind: str, words: str) -> list[Shown]:
        """The pictures of a round (None: all), of a kind, whose captions hold all the words; the hardest first."""
        wanted = words.lower().split()
        found = [
            one for one in self.shown.values()
            if (number is None or one.entry.round == number)
            and self._is(one, kind)
            and all(word in one.entry.caption.lower() for word in wanted)
        ]  # fmt: skip
        return sorted(found, key=lambda one: (math.inf if one.relative is None else one.relative, one.entry.id))

    def set_aside(self, *, number: int | None, words: str) -> list[dict[str, Any]]:
        """What was drawn and cannot be used; of a picture that looks too normal, the picture is among the others."""
        wanted = words.lower().split()
        rows = [(r, row) for r in range(self.rounds) if number in (None, r) for row in self.folder.set_aside(r)]
        return [
            {"round": r, "caption": row.caption, "reason": row.reason}
            for r, row in rows if all(word in row.caption.lower() for word in wanted)
        ]  # fmt: skip

    def _is(self, one: Shown, kind: str) -> bool:
        said = self.reviews.decisions.get(one.entry.id)
        return {
            "all": True, "hard": one.hard is True, "easy": one.hard is False, "unjudged": one.hard is None,
            "vetoed": one.entry.id in self.reviews.vetoed, "reviewed": said is not None, "open": said is None,
        }[kind]  # fmt: skip

    def told(self, one: Shown) -> dict[str, Any]:
        """What the page shows of a picture."""
        said = self.reviews.decisions.get(one.entry.id)
        return {
            "id": one.entry.id, "round": one.entry.round, "caption": one.entry.caption, "relative": one.relative,
            "hard": one.hard, "in_pool": one.in_pool, "altered": one.entry.normal is not None,
            "normal": one.entry.normal is not None or one.entry.prompt in self._normals,
            "verdict": None if said is None else said.verdict, "reason": None if said is None else said.reason,
        }  # fmt: skip

    def pair(self, skipped: Sequence[frozenset[str]] = ()) -> tuple[Shown, Shown] | None:
        """Two pictures under one prompt that were not compared yet, as near to each other in hardness as there are:
        where the machine knows least. None: there are no more."""
        done = {frozenset((choice.harder, choice.easier)) for choice in self.reviews.choices} | set(skipped)
        groups: dict[tuple[str, int], list[Shown]] = {}
        for one in self.shown.values():
            if one.relative is not None and one.entry.id not in self.reviews.vetoed:
                groups.setdefault((one.entry.prompt, one.entry.round), []).append(one)
        best: tuple[float, Shown, Shown] | None = None
        for mine in groups.values():
            ordered = sorted(mine, key=lambda one: one.relative or 0.0)
            for a, b in pairwise(ordered):
                apart = math.log(max(b.relative or 0, 1e-30) / max(a.relative or 0, 1e-30))
                fits = a.entry.caption != b.entry.caption and frozenset((a.entry.id, b.entry.id)) not in done
                if fits and (best is None or apart < best[0]):
                    best = (apart, a, b)
        return None if best is None else best[1:]

    def say(self, said: Decision | Choice) -> None:
        """Keep it, on disk first.

        Raises:
            UserError: of a picture that is not here.
        """
        for name in [said.id] if isinstance(said, Decision) else [said.harder, said.easier]:
            if name not in self.shown:
                raise UserError(f"review: expected a picture of {self.root}; got {name!r}")
        append(self.root, said)
        self.reviews = self.reviews.with_said(said)

    def image(self, name: str, *, small: bool) -> bytes | None:
        """The PNG of a picture; None where there is no such picture."""
        one = self.shown.get(name)
        if one is None:
            return None
        return self._thumbnail(name) if small else self._stored(name)

    def normal(self, name: str) -> bytes | None:
        """The PNG of the normal that a picture was made of; of one that was drawn from nothing, of that whose caption
        was in its prompt."""
        one = self.shown.get(name)
        if one is None:
            return None
        own = None if one.entry.normal is None else self._altered[one.entry.round].get(one.entry.normal)
        return self._normals.get(one.entry.prompt) if own is None else png(Image.fromarray(own))

    def outline(self, name: str) -> bytes | None:
        """The PNG of a picture with a line around what was altered; None where nothing tells."""
        if name not in self.shown or "mask" not in self._files[self._places[name][0]].column_names:
            return None
        picture, mask = (np.asarray(Image.open(io.BytesIO(self._stored(name, what)))) for what in ("image", "mask"))
        return png(Image.fromarray(outlined(picture, mask)))

    def _stored(self, name: str, what: str = "image") -> bytes:
        number, row = self._places[name]
        stored: bytes = self._files[number][what][row]["bytes"].as_py()
        return stored

    def _thumbnail(self, name: str) -> bytes:
        stored = self._stored(name)
        with Image.open(io.BytesIO(stored)) as image:
            if max(image.size) <= THUMBNAIL:
                return stored
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            return png(image)


def png(image: Image.Image) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
