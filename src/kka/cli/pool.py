"""`kka pool export`. What it needs is imported when it runs."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from kka.cli.logged import Hushed
from kka.errors import UserError
from kka.settings import Natural, Text, settings


@settings()
class Pool(Hushed):
    """Write the pool of a run for other tools. An older export in --out is written anew; another folder is left
    alone."""

    action: Annotated[Literal["export"], tyro.conf.Positional]
    run: Annotated[Path, tyro.conf.Positional]
    """The run directory; of an unfinished run the pool that there is."""
    to: Literal["imagefolder", "anomalib", "huggingface", "coco"]
    """imagefolder: pictures and metadata.jsonl. anomalib: normal, abnormal and masks, as its Folder reads them. \
huggingface: Parquet files with a card. coco: polygons, where there are masks."""
    out: Path
    """A folder that is new, or an older export."""
    round: Natural | None = None
    """The pool after this round. Default: the last."""
    push: Text | None = None
    """huggingface: upload it to the hub too, as owner/name; private if it is new."""
    public: bool = False
    """With --push: a new repository is public."""


def run_pool(command: Pool) -> int:
    """What `kka pool export` does; returns the exit status."""
    from kka.cli.progress import Console
    from kka.common.hold import held
    from kka.common.terminal import terminal
    from kka.common.writable import require_writable
    from kka.exchange import writer
    from kka.exchange.source import open_normals, read_run
    from kka.exchange.target import mark, replaced, require_ours

    if command.push is not None and command.to != "huggingface":
        raise UserError(f"--push: expected --to huggingface beside it; got --to {command.to}")
    if command.public and command.push is None:
        raise UserError("--public: expected --push beside it; got none")
    require_ours(command.out)
    require_writable(command.out, "--out", folder=True)
    with held(command.out), Console() as console:
        exported = read_run(command.run, number=command.round)
        if command.to == "anomalib":
            exported = open_normals(exported, command.run)
        if not exported.finished:
            console.warn(f"{command.run} is not finished: this is its pool after round {exported.round}.")
        if not exported.masks and command.to != "coco":
            console.say("No masks: the run's image model draws pictures whole.")
        with replaced(command.out) as folder:
            more = writer(command.to)(exported, folder, lambda done, total: console.progress("export", done, total))
            mark(folder, command.to, exported.facts | more)
    facts = exported.facts | more
    also = "".join(f", {facts[name]:,} {name}" for name in ("normals", "masks", "annotations") if facts.get(name))
    told = f"{command.out}: {facts['pictures']:,} pictures, {facts['hard']:,} of them hard{also}"
    terminal().print(told, soft_wrap=True, highlight=False, markup=False)
    if command.push is not None:
        from kka.exchange.huggingface import push

        address = push(command.out, command.push, public=command.public)
        terminal().print(f"Hub: {address}", soft_wrap=True, highlight=False, markup=False)
    return 0
