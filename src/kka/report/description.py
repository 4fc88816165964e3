"""A description as people see it: tables in the terminal, and one HTML page that needs nothing else."""

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kka.common.terminal import terminal
from kka.common.walk import printable
from kka.data.describe import Description, Part, Sample

LISTED = 10


def _sizes(part: Part) -> str:
    shown = [f"{w} × {h}" if len(part.sizes) == 1 else f"{w} × {h} ({n:,})" for (w, h), n in part.sizes.most_common(3)]
    return ", ".join(shown) + (f" and {len(part.sizes) - 3} more" if len(part.sizes) > 3 else "")


def _per_class(part: Part) -> str:
    low, high = min(part.classes.values()), max(part.classes.values())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _captions(part: Part) -> str:
    if set(part.captions) == {0}:
        return "none"
    low, high = min(part.captions), max(part.captions)
    return f"{low}" if low == high else f"{low} to {high}"


def rows(facts: Description) -> list[tuple[str, ...]]:
    """One row a part: name, images, classes, images a class, sizes, captions an image."""
    return [
        (name, f"{part.images:,}", f"{len(part.classes):,}", _per_class(part), _sizes(part), _captions(part))
        for name, part in facts.parts.items()
    ]


COLUMNS = ("part", "images", "classes", "images a class", "pixels", "captions an image")


def remarks(facts: Description) -> list[str]:
    """What a reader should know before using the data: what is taken as what, then faults, worst first."""
    said = [f"{note[:1].upper()}{note[1:]}." for note in facts.notes]
    if facts.origin is not None and facts.origin.get("partial"):
        faults = "; ".join(facts.origin.get("faults", ()))
        said.append(f"Partial: not the whole, official {facts.origin.get('name')}: {faults}.")
    if facts.changed:
        said.append(f"No longer as dataset.json says: {', '.join(facts.changed)}.")
    if facts.across:
        said.append(
            f"Pictures in more than one part: {facts.across}. A run takes them out of its training side."
        )
    within = len(facts.duplicates) - facts.across
    if within:
        said.append(f"Pictures that occur more than once within a part: {within}.")
    if facts.set_aside:
        said.append(f"Files that cannot be read: {len(facts.set_aside)}.")
    return said


def print_description(facts: Description, console: Console | None = None) -> None:
    """Tables and remarks on the terminal."""
    console = console or terminal()
    table = Table(title=Text(f"{printable(str(facts.folder))} ({facts.form})"), title_justify="left")
    for column in COLUMNS:
        table.add_column(column)
    for row in rows(facts):
        table.add_row(*row)
    console.print(table)
    for remark in remarks(facts):
        console.print(remark, style="yellow")
    for group in facts.duplicates[:LISTED]:
        console.print(f"  the same picture: {', '.join(group[:4])}")
    for item in facts.set_aside[:LISTED]:
        console.print(f"  cannot be read: {item.path}: {item.reason}")
    for name, part in facts.parts.items():
        if part.shortest is not None:
            console.print(f"{name}, shortest caption: {part.shortest}")
            console.print(f"{name}, longest caption: {part.longest}")
    counts = _class_rows(facts)
    if len(counts) > 1:
        several = Table(title="classes", title_justify="left")
        for column in ("class", *facts.parts):
            several.add_column(column)
        for name, *numbers in counts[: 3 * LISTED]:
            several.add_row(name, *map(str, numbers))
        console.print(several)
        if len(counts) > 3 * LISTED:
            console.print(f"and {len(counts) - 3 * LISTED} more classes; --html shows all")


def _class_rows(facts: Description) -> list[tuple[Any, ...]]:
    """Class and its images in each part, largest first."""
    totals: Counter[str] = Counter()
    for part in facts.parts.values():
        totals.update(part.classes)
    return [(name, *(part.classes[name] for part in facts.parts.values())) for name, _ in totals.most_common()]


def write_page(facts: Description, path: Path) -> Path:
    """Write the page to `path`, whole or not at all; returns it."""
    import jinja2

    import kka.report
    from kka.common.files import write_atomically
    from kka.errors import UserError

    folder = Path(kka.report.__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = _class_rows(facts)
    page = environment.get_template("data.html.j2").render(
        facts=facts,
        name=printable(facts.folder.resolve().name),
        style=(folder / "page.css").read_text(encoding="utf-8"),
        columns=COLUMNS,
        rows=rows(facts),
        remarks=remarks(facts),
        samples=_by_class(facts.samples),
        pixelated=all(max(s.pixels.shape[:2]) <= 48 for s in facts.samples),
        classes=counts,
        most=max(sum(numbers) for _, *numbers in counts),
        total=sum(part.images for part in facts.parts.values()),
        facts_of_origin=_origin_lines(facts),
        listed=50,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page)
    except OSError as error:
        raise UserError(f"html: cannot write {path}: {error.strerror or error}") from error
    return path


def _by_class(samples: tuple[Sample, ...]) -> list[tuple[str, list[tuple[str, str]]]]:
    from PIL import Image

    from kka.report.embedded import data_uri

    kinds = dict.fromkeys(sample.kind for sample in samples)
    return [
        (kind, [(data_uri(Image.fromarray(s.pixels)), s.caption) for s in samples if s.kind == kind])
        for kind in kinds
    ]


def _origin_lines(facts: Description) -> list[tuple[str, str]]:
    """What dataset.json tells of where the data came from."""
    if facts.origin is None:
        return []
    origin, split = facts.origin, facts.origin.get("split", {})
    source = origin.get("source", {})
    came = source.get("from", "")
    lines = [("Source", ", ".join(came) if isinstance(came, list) else str(came))]
    lines += [(str(file.get("file")), f"MD5 {file.get('md5')}") for file in source.get("files", ())]
    rule = str(split.get("rule", ""))
    if rule == "random":
        rule += f", {split.get('train_share', 0):.0%} of each class trains, seed {split.get('seed')}"
    lines += [("Split", rule), ("Stored as", f"{origin.get('size')} pixels a side, {origin.get('encoding')}")]
    lines += [(name, f"SHA-256 {digest}") for name, digest in origin.get("sha256", {}).items()]
    return lines
