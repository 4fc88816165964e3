"""How the experiments' figures look: one style, and PNG files that are written whole."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kka.common.files import replacing

COLOURS = {"none": "#8a8f98", "first": "#d08770", "kka": "#2f6f9f", "hard": "#b4413c", "normal": "#2f6f9f"}


def announce(text: str) -> None:
    """Say what takes a minute."""
    print(f"{text} …", file=sys.stderr, flush=True)


@contextmanager
def figure(path: Path, *, width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[tuple[Any, Any]]:
    """A matplotlib figure and its axes (rows, columns); saved to `path` at the end of the block."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style: Any = {
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.color": "#e6e8eb", "grid.linewidth": 0.6, "legend.frameon": False, "figure.dpi": 150,
    }  # fmt: skip
    with plt.rc_context(style):
        drawn, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")
        try:
            yield drawn, axes
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                drawn.savefig(part, metadata={"Software": None})
        finally:
            plt.close(drawn)
