"""Trackers are shown what a run has stored, each thing once, however often the run is killed and resumed.

What each tracker was shown stands in tracking.json, in the run's folder: it is written after the tracker has taken
something. A run that is killed between the two shows that again, with the same step and the same value.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from kka.algorithm.folder import REPORT, SUMMARY, TRACKING, RunFolder
from kka.common.begun import flat
from kka.common.files import read_json, sha256, write_atomically
from kka.errors import UserError
from kka.report.read import read_round
from kka.tracking import check_trackers, open_tracker
from kka.tracking.figures import detector_figures, round_figures
from kka.tracking.news import News, Place, Scalar, Sheet, Tracker
from kka.tracking.sheet import round_sheet

PICTURES = "pictures"
"""The tag of the sheets."""


@dataclass(kw_only=True)
class Told:
    """What one tracker was shown."""

    identity: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    scalars: dict[str, dict[str, float]] = field(default_factory=dict)
    """Tag -> step -> value. JSON has texts for keys."""
    sheets: dict[str, list[int]] = field(default_factory=dict)
    """Tag -> steps."""
    files: dict[str, str] = field(default_factory=dict)
    """Name -> SHA-256."""

    def unknown(self, news: News) -> News:
        """Of the news what is new."""
        return News(
            settings={n: v for n, v in news.settings.items() if n not in self.settings or self.settings[n] != v},
            scalars=tuple(s for s in news.scalars if self.scalars.get(s.tag, {}).get(str(s.step)) != s.value),
            sheets=tuple(s for s in news.sheets if s.step not in self.sheets.get(s.tag, ())),
            files=tuple(file for file in news.files if self.files.get(file.name) != sha256(file)),
        )

    def add(self, news: News) -> None:
        """It was shown."""
        self.settings |= news.settings
        for scalar in news.scalars:
            self.scalars.setdefault(scalar.tag, {})[str(scalar.step)] = scalar.value
        for sheet in news.sheets:
            self.sheets.setdefault(sheet.tag, []).append(sheet.step)
        self.files |= {file.name: sha256(file) for file in news.files}


class Follower:
    """Shows a run to its trackers. Use it as a context manager.

    A tracker that fails is named once and left alone; the run goes on, and when it is resumed the tracker is shown
    what it missed.
    """

    def __init__(self, folder: Path, specs: Sequence[str], *, say: Callable[[str], None] | None = None) -> None:
        """Trackers that the run in `folder` was begun with are taken up again.

        Raises:
            UserError: a tracker of `specs` that cannot begin. One that is only taken up again is warned of.
        """
        self._folder, self._say = RunFolder(folder), say or (lambda text: warnings.warn(text, stacklevel=4))
        self._told = _read(folder / TRACKING)
        self._trackers: dict[str, Tracker] = {}
        for spec in dict.fromkeys([*specs, *self._told]):
            told = self._told.setdefault(spec, Told())
            try:
                check_trackers([spec])
                tracker = open_tracker(spec, Place(folder=folder, identity=told.identity))
            except Exception as error:  # each library has its own
                if spec in specs:
                    self._close(finished=False)
                    raise _cannot_begin(spec, error) from error
                self._say(f"{spec} is not told of this run any more: {_said(error)}")
            else:
                self._trackers[spec], told.identity = tracker, tracker.identity
        if self._trackers:
            self._write()

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._close(finished=kind is None)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """The configuration, as config.yaml holds it."""
        self._show(lambda: News(settings=flat(dict(settings))))

    def round(self, number: int) -> None:
        """Round `number` has its pictures; the round before it was judged meanwhile."""
        numbers = [*range(max(0, number - 1), number + 1)]
        self._show(lambda: News(scalars=self._figures(numbers), sheets=self._sheets(numbers)))

    def end(self) -> None:
        """The run is finished: summary and report are there."""
        root = self._folder.root

        def news() -> News:
            summary = read_json(root / SUMMARY)
            numbers = range(int(summary["rounds"][-1]["round"]) + 1)
            found = (*self._figures(numbers), *detector_figures(self._folder, summary))
            files = tuple(root / name for name in (REPORT, SUMMARY) if (root / name).is_file())
            return News(scalars=found, sheets=self._sheets(numbers), files=files)

        self._show(news)

    def _figures(self, numbers: Iterable[int]) -> tuple[Scalar, ...]:
        return tuple(scalar for number in numbers for scalar in round_figures(self._folder, number))

    def _sheets(self, numbers: Iterable[int]) -> tuple[Sheet, ...]:
        """Of the rounds whose sheet some tracker has not got yet."""
        told = [self._told[spec].sheets.get(PICTURES, []) for spec in self._trackers]
        found = []
        for number in numbers:
            if any(number not in steps for steps in told):
                pixels = round_sheet(read_round(self._folder, self._folder.facts(number)))
                if pixels is not None:
                    found.append(Sheet(tag=PICTURES, step=number, pixels=pixels))
        return tuple(found)

    def _show(self, news: Callable[[], News]) -> None:
        """Nothing is read where nobody is told."""
        if not self._trackers:
            return
        try:
            found = news()
        except Exception as error:  # what the run itself cannot read ends it elsewhere
            for spec in list(self._trackers):
                self._drop(spec, error)
            return
        for spec, tracker in list(self._trackers.items()):
            told = self._told[spec]
            try:
                if fresh := told.unknown(found):
                    tracker.log(fresh)
                    told.add(fresh)
                    self._write()
            except Exception as error:  # each library has its own; a run of hours does not end for it
                self._drop(spec, error)

    def _drop(self, spec: str, error: Exception) -> None:
        self._trackers.pop(spec, None)
        self._say(
            f"{spec} failed and is not told any more: {_said(error)}. The run goes on; when it has ended, this shows "
            f"the rest: kka run --out {self._folder.root} --resume"
        )

    def _write(self) -> None:
        stored = {spec: vars(told) for spec, told in self._told.items()}
        write_atomically(self._folder.root / TRACKING, json.dumps(stored, indent=1, ensure_ascii=False))

    def _close(self, *, finished: bool) -> None:
        for spec, tracker in list(self._trackers.items()):
            try:
                tracker.close(finished=finished)
            except Exception as error:
                self._drop(spec, error)
        self._trackers.clear()


def _read(file: Path) -> dict[str, Told]:
    if not file.is_file():
        return {}
    try:
        return {spec: Told(**told) for spec, told in read_json(file).items()}
    except (TypeError, UserError) as error:
        raise UserError(
            f"{file} is damaged ({error}). Remove it: the trackers are then shown the whole run again, as a new one."
        ) from error


def _cannot_begin(spec: str, error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    return UserError(f"track: {spec} cannot begin: {_said(error)}. Set it up, or leave out --track.")


def _said(error: Exception) -> str:
    """The first line of what a library says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300].rstrip(".") if lines else type(error).__name__
