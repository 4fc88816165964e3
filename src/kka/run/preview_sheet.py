"""A preview as people see it: one picture, and lines of text."""

from collections.abc import Iterator
from pathlib import Path

from kka.common.labels import STAGES
from kka.report.altered import outlined
from kka.report.sheet import Block, Cell, write_sheet_of
from kka.run.estimate import Estimate
from kka.run.preview import Preview, Shown

SUFFIX = ".preview.png"


def sheet_beside(out: Path) -> Path:
    """Where the sheet of a run or a detector lies that would be written to `out`: beside it, which stays free."""
    return out.with_name(f"{out.name}{SUFFIX}")


def write_preview(path: Path, preview: Preview) -> None:
    """The sheet, with everything that `lines` says."""
    of_words = preview.prompt is not None
    blocks = [Block(title="Photos as the detector sees them", cells=[*map(_cell, preview.photos)], lines=[preview.how])]
    if preview.prompt is not None:
        blocks.append(Block(title="The first prompt", lines=preview.prompt.splitlines()))
    title = "Captions, and their pictures" if of_words else "Anomalies as they enter"
    if any(shown.mask is not None for shown in preview.pictures):
        title += ": the photo, the picture, its mask" if of_words else ": the picture, its mask"
    blocks.append(Block(title=title, cells=[*map(_cell, preview.pictures)], lines=preview.told))
    blocks.append(Block(title="Of the data", lines=preview.notes or ("nothing to note",)))
    blocks.append(Block(title="What it will take on this machine, as busy as it is", lines=[*costs(preview.estimate)]))
    write_sheet_of(path, preview.title, blocks)


def _cell(shown: Shown) -> Cell:
    views = [shown.image] if shown.normal is None else [shown.normal, shown.image]
    if shown.mask is not None:
        views.append(outlined(shown.image, shown.mask))
    return Cell(pictures=views, caption=shown.caption)


def lines(preview: Preview) -> Iterator[str]:
    """All but the pictures."""
    yield preview.title
    yield f"  {preview.how}"
    for note in preview.notes:
        yield f"  {note}"
    if preview.prompt is not None:
        yield "The first prompt:"
        yield from (f"  {line}" for line in preview.prompt.splitlines())
        yield "Captions:"
        yield from (f"  {shown.caption}" for shown in preview.pictures)
    else:
        yield "Anomalies:"
    yield from (f"  {said}" for said in preview.told)
    yield "What it will take on this machine, as busy as it is:"
    yield from (f"  {said}" for said in costs(preview.estimate))


def costs(estimate: Estimate) -> Iterator[str]:
    """Time by parts, memory, disk, calls."""
    least = "at least " if any(part.seconds is None for part in estimate.parts) else "about "
    yield (
        f"{least}{spoken(estimate.seconds)}; {estimate.memory / 2**30:.1f} GB of memory at the peak; "
        f"{size(estimate.disk)} on the disk"
    )
    for what, number in estimate.calls.items():
        yield f"{number:,.4f} for the {what}" if what == "cost" else f"{number:,.0f} {what}"
    for part in estimate.parts:
        took = "not known" if part.seconds is None else spoken(part.seconds)
        yield f"{STAGES.get(part.stage, part.stage)}: {took} (from {part.how})"


def spoken(seconds: float) -> str:
    """As people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def size(number: int) -> str:
    """Bytes as people say them."""
    return f"{number / 2**20:.0f} MB" if number < 2**30 else f"{number / 2**30:.1f} GB"
