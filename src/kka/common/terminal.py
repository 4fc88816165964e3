"""The terminal: what is printed there is shown as it is, whatever names and captions hold."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def terminal(*, stderr: bool = False, width: int | None = None) -> "Console":
    """A console of rich without its markup and its emoji names: ":x:" and "[/]" may stand in a file's name."""
    from rich.console import Console

    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
