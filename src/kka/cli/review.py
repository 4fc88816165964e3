"""`kka review`. What it needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import tyro
from annotated_types import Ge, Le

from kka.settings import settings


@settings()
class Review:
    """Look through the pictures of a run, finished or not, on a page in your browser: keep, veto, harder, easier, and
    which of two is the harder. What you say counts in the rounds that follow: kka run --out RUN --resume --rounds N."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run directory."""
    port: Annotated[int, Ge(0), Le(65_535)] = 0
    """0: one that is free."""
    browser: bool = True
    """Open the page; with --no-browser its address is printed alone."""


def run_review(command: Review) -> int:
    """What `kka review` does; returns the exit status."""
    import webbrowser

    from kka.algorithm.reviews import REVIEWS
    from kka.common.terminal import terminal
    from kka.common.writable import require_writable
    from kka.review.album import Album
    from kka.review.server import Server

    album = Album(command.run)
    require_writable(command.run / REVIEWS, "review")
    with Server(album, port=command.port) as server:
        terminal().print(f"{server.address}\nCtrl-C ends it.", soft_wrap=True, highlight=False, markup=False)
        if command.browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            said = album.reviews
            counts = f"{len(said.decisions)} pictures reviewed, {len(said.vetoed)} vetoed, {len(said.choices)} choices"
            told = f"{counts}, in {command.run / REVIEWS}" if said else "Nothing was said."
            terminal().print(told, soft_wrap=True, highlight=False, markup=False)
    return 0
