"""What a person sees while a run goes on, and at its end."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from kka.algorithm.facts import RoundFacts
from kka.algorithm.folder import REPORT, RunFolder, arm_name
from kka.cli.logged import LOG, is_quiet
from kka.common.inspection import FIGURES, TITLES, Row
from kka.common.labels import STAGES, arm_label, percent, stage_kind
from kka.common.metrics import Estimate, read_estimates
from kka.common.terminal import terminal
from kka.deploy.traced import Traced
from kka.deploy.worth import Worth
from kka.protocols import DPOReport
from kka.task import Task

if TYPE_CHECKING:
    from kka.run.preview import Preview

SHOWN = 10
"""Files set aside that are named on the screen where a file names them all."""


class Console:
    """A progress display with a line a stage. Use it as a context manager. With --quiet it has warnings alone."""

    def __init__(self) -> None:
        self._console = terminal(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<34}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=is_quiet(),
        )
        self._stage: str | None = None
        self._line: Any = None

    def __enter__(self) -> "Console":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def task(self, task: Task, *, kept_in: str | None = None) -> None:
        """Say what the work is about: what was taken as what, the loader's notes, every file that was set aside.

        `kept_in`: the file that names those set aside as well, so that a few are enough here.
        """
        test = f"{len(task.test.images):,} test images" if task.test is not None else "no test images"
        normals = f"{len(task.normals):,} normals"
        if task.photos is not None:
            normals = f"{len(task.photos):,} normals ({len(task.normals):,} tiles)"
        if not is_quiet():
            self._say(Text.assemble((task.name, "bold"), f": {normals}, {test}"))
            for said in ("layout", "shapes"):
                if said in task.details:
                    self._say(Text(f"  {task.details[said]}"))
        notes = task.details.get("notes", ())
        for note in notes if isinstance(notes, list | tuple) else ():
            self._say(Text(f"  {note}", "yellow"))
        shown = task.set_aside if kept_in is None else task.set_aside[:SHOWN]
        for item in shown:
            self._say(Text(f"  set aside: {item.path}: {item.reason}", "yellow"))
        if len(shown) < len(task.set_aside):
            self._say(Text(f"  and {len(task.set_aside) - len(shown)} more, named in {kept_in}", "yellow"))

    def say(self, text: str) -> None:
        """A line above the display."""
        if not is_quiet():
            self._say(Text(text))

    def warn(self, text: str) -> None:
        """A line that --quiet leaves."""
        self._say(Text(text, "yellow"))

    def _say(self, text: Text) -> None:
        """As it is: names of files may hold what would else be taken as markup or emoji."""
        self._console.print(text, soft_wrap=True, highlight=False)

    def progress(self, stage: str, done: int, total: int) -> None:
        """A new line when a stage begins; the same line while it goes on, or without a terminal one now and then."""
        finished = self._line is not None and self._progress.tasks[-1].finished
        if stage != self._stage or (done == 0 and finished):
            self._stage = stage
            self._line = self._progress.add_task(STAGES.get(stage, stage), total=total)
        self._progress.update(self._line, completed=done, total=total)
        LOG.at(f"{STAGES.get(stage, stage)}: {done:,} of {total:,}")


def _tuning(report: DPOReport | None) -> str | None:
    """Where a tuning led, if that was measured."""
    if report is None or report.base_entropy is None:
        return None
    return (
        f"the tuned language model is {report.kl_to_base:.1f} nats a caption from the base model (whose entropy is "
        f"{report.base_entropy:.1f}); different captions among {report.answers} answers: {report.different_before} "
        f"before, {report.different_after} after."
    )


def _spent(spent: dict[str, float | None]) -> str | None:
    """What a language model that is paid for used."""
    if (read := spent.get("tokens_read")) is None:
        return None
    told = f"Language model: {read:,.0f} tokens read, {spent.get('tokens_written') or 0:,.0f} written"
    cost = spent.get("cost")
    return f"{told}." if cost is None else f"{told}; cost {cost:.4f}."


def print_summary(summary: dict[str, Any], out: Path) -> None:
    """The table at the end: arms and rounds, what was generated, where the seconds went."""
    console = terminal()
    seeds = len(summary["seeds"])
    if summary["arms"]:
        console.print(_arms_table({arm: read_estimates(found) for arm, found in summary["arms"].items()}, seeds))
    rounds = [RoundFacts.from_dict(facts) for facts in summary["rounds"]]
    console.print(_rounds_table(rounds))
    console.print(_seconds_table(summary["seconds"], summary["wall_seconds"]))
    if told := _spent(summary.get("spent") or {}):
        console.print(told)
    for facts in rounds:
        if facts.dpo is not None and facts.dpo.report is None:
            console.print(f"Round {facts.round}: the language model was not tuned: {facts.dpo.why}.")
        elif facts.dpo is not None and (told := _tuning(facts.dpo.report)):
            console.print(f"Round {facts.round}: {told}")
        if facts.closed:
            console.print(f"Round {facts.round} closed, as no new picture entered the pool: {facts.closed}.")
        if facts.captions < facts.captions_asked:
            console.print(
                f"Round {facts.round}: {facts.captions} of {facts.captions_asked} captions; the language "
                f"model wrote no more that were new."
            )
    if found := summary.get("inspection"):
        print_inspection([Row.from_dict(row) for row in found["rows"]])
    if found := summary.get("worth"):
        console.print(f"{Worth(**found).sentence()}.", soft_wrap=True)
    if found := summary.get("traced"):
        console.print(f"{Traced(**found).sentence()}.", soft_wrap=True)
    if found := summary.get("defects"):
        for item in found["set_aside"]:
            console.print(f"Defects: set aside: {item['path']}: {item['reason']}", style="yellow", soft_wrap=True)
        for line in found["sentences"]:
            console.print(f"{line}.", soft_wrap=True)
    console.print(f"Detector: {RunFolder(out).kept(last_arm(summary))}", soft_wrap=True)
    console.print(f"Report:   {out / REPORT}", soft_wrap=True)


def print_preview(preview: "Preview", out: Path) -> None:
    """What was found, and where the sheet lies."""
    from kka.common.writable import require_writable
    from kka.run.preview_sheet import lines, sheet_beside, write_preview

    sheet = sheet_beside(out)
    require_writable(sheet, "--out")
    write_preview(sheet, preview)
    console = terminal()
    for line in lines(preview):
        console.print(line, soft_wrap=True)
    console.print(f"Sheet: {sheet}", soft_wrap=True)


def print_inspection(rows: Sequence[Row]) -> None:
    """A table of figures by kind of defect, in %, with 95 % intervals; nothing where there are none."""
    if not rows:
        return
    shown = [name for name in FIGURES if any(name in row.figures for row in rows)]
    table = Table(title="By kind, % (95 % interval over photos)")
    table.add_column("kind", overflow="fold")
    table.add_column("photos", justify="right")
    for name in shown:
        table.add_column(TITLES[name], justify="right")
    for row in rows:
        found = [row.figures.get(name) for name in shown]
        cells = ["" if f is None else f"{100 * f.value:.1f} ({100 * f.low:.0f}-{100 * f.high:.0f})" for f in found]
        table.add_row(Text(row.kind), f"{row.photos:,}", *cells)
    terminal(width=None if sys.stdout.isatty() else 160).print(table)


def last_arm(summary: dict[str, Any]) -> str:
    """The arm of the last round."""
    return arm_name(summary["rounds"][-1]["round"])


def _arms_table(arms: dict[str, dict[str, Estimate]], seeds: int) -> Table:
    split = any("unseen" in figures for figures in arms.values())
    names = ["auroc", *(["seen", "unseen"] if split else []), "aupr", "fpr95"]
    titles = {"auroc": "AUROC", "seen": "seen", "unseen": "unseen", "aupr": "AUPR", "fpr95": "FPR at 95 % TPR"}
    table = Table(title=f"Detectors, % (mean ± 95 % interval over {seeds} seed{'s' if seeds > 1 else ''})")
    table.add_column("trained with")
    for name in names:
        table.add_column(titles[name], justify="right")
    for arm, figures in arms.items():
        table.add_row(arm_label(arm), *(percent(figures.get(name)) for name in names))
    return table


def _rounds_table(rounds: list[RoundFacts]) -> Table:
    table = Table(title="Rounds")
    for title in ("round", "captions", "images", "pool", "hard: fresh", "hard: pool"):
        table.add_column(title, justify="right")

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.0f} %"

    for facts in rounds:
        table.add_row(
            str(facts.round), str(facts.captions), str(facts.generated), str(facts.pool_size),
            share(facts.hard_share_fresh), share(facts.hard_share_pool),
        )  # fmt: skip
    return table


def _seconds_table(seconds: dict[str, float], wall: float) -> Table:
    """What stages took, and the clock from this start on: detectors that are trained side by side overlap."""
    sums: dict[str, float] = {}
    for stage, value in seconds.items():
        kind = stage_kind(stage)
        sums[kind] = sums.get(kind, 0) + value
    table = Table(title="Seconds by stage")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for kind, value in sums.items():
        table.add_row(kind, f"{value:.1f}")
    table.add_row("all", f"{sum(sums.values()):.1f}", style="bold")
    table.add_row("on the clock, of this start", f"{wall:.1f}")
    return table
