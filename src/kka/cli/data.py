"""`kka data prepare` and `kka data describe`. The parser is light; what a command needs is imported when it runs."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from kka.cli.logged import Hushed
from kka.data.prepare.options import PrepareOptions
from kka.settings import Text, settings


@settings()
class Prepare(PrepareOptions, Hushed):
    """Bring one of the paper's data sets into the form that kka reads: train.parquet, test.parquet, dataset.json.
    Without --from, the official files are downloaded."""

    name: Annotated[Literal["cifar100", "oxford102", "ucm_caption"], tyro.conf.Positional]
    out: Path
    """The folder to write. Call it after the data set, as kka takes what its pictures show from that."""
    source: Annotated[Text | None, tyro.conf.arg(name="from")] = None
    """A folder with the official files, or hf:<dataset id>. Default: download the official files."""

    @property
    def options(self) -> PrepareOptions:
        """How it is found, split and stored, alone."""
        return PrepareOptions(**{f.name: getattr(self, f.name) for f in dataclasses.fields(PrepareOptions)})


@settings()
class Describe(Hushed):
    """What a data set holds: counts, classes, sizes, captions, duplicates; of Parquet folders and folders of images."""

    folder: Annotated[Path, tyro.conf.Positional]
    html: Path | None = None
    """Write a page with sample pictures, too."""


@settings()
class Data:
    """Prepare one of the paper's data sets, or describe a data set."""

    command: Annotated[
        Annotated[Prepare, tyro.conf.subcommand("prepare")] | Annotated[Describe, tyro.conf.subcommand("describe")],
        tyro.conf.arg(name=""),
    ]


def run_data(command: Data) -> int:
    """What `kka data` does; returns the exit status."""
    return _prepare(command.command) if isinstance(command.command, Prepare) else _describe(command.command)


def _prepare(command: Prepare) -> int:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from kka.cli.progress import Console
    from kka.common.writable import require_writable
    from kka.data.prepare import prepare

    require_writable(command.out, "--out", folder=True)
    if command.downloads is not None:
        require_writable(command.downloads, "--downloads", folder=True)
    with Console() as console:
        card = prepare(command.name, command.out, command.options, console.progress)
    _print_card(card, command.out)
    return 0


def _print_card(card: dict[str, Any], out: Path) -> None:
    """The printed summary; what is partial or was set aside stands first and in colour."""
    from kka.common.terminal import terminal

    console = terminal()

    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, soft_wrap=True)

    if card["partial"]:
        say(f"PARTIAL: not the whole, official {card['name']}. Its figures compare with no published ones.", "bold red")
        for fault in card["faults"]:
            say(f"  {fault}", "red")
    images, rule, captions = card["images"], card["split"], card["captions"]
    how = ""
    if rule["rule"] == "random":
        how = f" ({rule['train_share']:.0%} of each class trains, seed {rule['seed']})"
    say(
        f"{out}: {images['train']:,} training and {images['test']:,} test images of {card['classes']} classes, "
        f"{card['size']} pixels a side, {rule['rule']} split{how}"
    )
    told = {"own": "their own", "model": f"by {card['caption_model']}", "class_name": "the class name stands in"}
    parts = [f"{captions[kind]:,} images: {text}" for kind, text in told.items() if kind in captions]
    say(f"captions: {', '.join(parts)}")
    for note in card["notes"]:
        say(f"  {note}", "yellow")
    for item in card["set_aside"][:10]:
        say(f"  set aside: {item['path']}: {item['reason']}", "yellow")
    if len(card["set_aside"]) > 10:
        say(f"  and {len(card['set_aside']) - 10} more, named in {out / 'dataset.json'}", "yellow")


def _describe(command: Describe) -> int:
    from kka.cli.progress import Console
    from kka.common.writable import require_writable
    from kka.data.describe import describe
    from kka.report.description import print_description, write_page

    if command.html is not None:
        require_writable(command.html, "--html")
    with Console() as console:
        facts = describe(command.folder, lambda done, total: console.progress("Reading pictures", done, total))
    print_description(facts)
    if command.html is not None:
        print(f"Page: {write_page(facts, command.html)}")
    return 0
