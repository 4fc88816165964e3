"""The report of a run: one HTML file that needs nothing else. It reads stored results only, and computes no result.

matplotlib, jinja2 and scikit-learn are imported when a report is written, not before.
"""

from pathlib import Path


def write_report(folder: Path) -> Path:
    """Write `folder`/report.html from what the run directory `folder` holds; returns its path.

    The file is replaced whole or not at all.

    Raises:
        UserError: `folder` holds no finished run (no summary.json), or a damaged one.
    """
    from kka.common.files import write_atomically
    from kka.report.html import render
    from kka.report.read import read_run

    path = Path(folder) / "report.html"
    write_atomically(path, render(read_run(Path(folder))))
    return path
