"""`kka review`. What it needs is imported when it runs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from annotated_types import Ge, Le

from kka.cli.logged import Hushed, heard
from kka.errors import UserError
from kka.settings import Text, settings

if TYPE_CHECKING:
    from kka.review.server import Site


@settings()
class Review(Hushed):
    """Look, on a page in your browser, through the pictures of a run, or with --detector-dir through photos that a
    detector scores.

    Of a run, finished or not: keep, veto, harder, easier, and which of two is the harder. What you say counts in the
    rounds that follow: kka run --out RUN --resume --rounds N. Of photos: the most and the least anomalous, where, what
    any threshold would mean; choose one, and say what is wrong, which kka train --reviews takes up."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The run directory; with --detector-dir photos or folders of them."""
    detector_dir: Path | None = None
    """A detector that kka train or kka run kept."""
    detector: Text | None = None
    """Your own class that the detector is of, as in kka score."""
    reviews: Path | None = None
    """The file of what you say of photos. Default: reviews.jsonl in the detector's folder."""
    port: Annotated[int, Ge(0), Le(65_535)] = 0
    """0: one that is free."""
    browser: bool = True
    """Open the page; with --no-browser its address is printed alone."""


def run_review(command: Review) -> int:
    """What `kka review` does; returns the exit status."""
    import webbrowser

    from kka.review.server import Server

    site, told = _run_site(command) if command.detector_dir is None else _scores_site(command, command.detector_dir)
    with Server(site, port=command.port) as server:
        _say(f"{server.address}\nCtrl-C ends it.")
        if command.browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            _say(told())
    return 0


def _run_site(command: Review) -> "tuple[Site, Callable[[], str]]":
    """The page of a run, and what is said when it ends."""
    from kka.algorithm.reviews import REVIEWS
    from kka.common.writable import require_writable
    from kka.review.album import Album
    from kka.review.run_site import run_site

    for option, given in (("--reviews", command.reviews), ("--detector", command.detector)):
        if given is not None:
            raise UserError(f"{option}: expected with --detector-dir alone. Leave it out.")
    if len(command.paths) != 1:
        raise UserError(
            f"review: expected the directory of one run, or photos with --detector-dir; got {len(command.paths)} paths"
        )
    (run,) = command.paths
    album = Album(run)
    require_writable(run / REVIEWS, "review")

    def told() -> str:
        said = album.reviews
        counts = f"{len(said.decisions)} pictures reviewed, {len(said.vetoed)} vetoed, {len(said.choices)} choices"
        return f"{counts}, in {run / REVIEWS}" if said else "Nothing was said."

    return run_site(album), told


def _scores_site(command: Review, folder: Path) -> "tuple[Site, Callable[[], str]]":
    """The page of a detector's scores, and what is said when it ends."""
    from kka.cli.detector import found_in, name_set_aside, plain_warnings
    from kka.cli.progress import Console
    from kka.common.files import image_files
    from kka.common.writable import require_writable
    from kka.deploy.marks import MARKS, SAID
    from kka.deploy.stored import NO_THRESHOLD, open_detector
    from kka.deploy.stored_scores import scored_photos
    from kka.review.scored import ScoredPhotos
    from kka.review.scores_site import scores_site

    marks = command.reviews or folder / MARKS
    with plain_warnings():
        kept = open_detector(folder, of=command.detector)
        files = found_in(image_files(command.paths), command.paths)
    require_writable(marks, "--reviews")
    with heard(quiet=command.quiet), Console() as console:
        photos, bad = scored_photos(kept, files, progress=lambda done, total: console.progress("Scoring", done, total))
    name_set_aside(bad)
    if kept.threshold is None:
        _say(NO_THRESHOLD)
    with plain_warnings():
        scored = ScoredPhotos(kept, photos, command.paths, marks, set_aside=bad)

    def told() -> str:
        said = [what for _, what in scored.marked()]
        counts = ", ".join(f"{said.count(what)} {what}" for what in SAID)
        return f"{counts}, in {marks}; kka train --reviews {marks} takes them up" if said else "Nothing was said."

    return scores_site(scored), told


def _say(text: str) -> None:
    from kka.common.terminal import terminal

    terminal().print(text, soft_wrap=True, highlight=False, markup=False)
