"""Pages of the site that are made when it is built: the start page and the limits, both from the README.

A hook of mkdocs (`mkdocs.yml`). Links to files outside of docs/ become their names, as the site does not hold them.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")
LIMITS = "## Limits"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that have no file in docs/."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    start, limits = readme.split(LIMITS)
    more = "Departures from the paper: [deviations](docs/deviations.md). What did not work: [the log](docs/LOG.md)."
    files.append(File.generated(config, "index.md", content=start))
    files.append(File.generated(config, "limits.md", content=f"# Limits{limits}\n{more}\n"))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links as the site has them."""
    home = ROOT if page.file.generated_by else Path(config.docs_dir)

    def link(found: re.Match[str]) -> str:
        text, path, anchor = found[1], found[2], found[3] or ""
        target = (home / path).resolve()
        if target.is_relative_to(config.docs_dir):
            text = target.stem if text == path else text
            return f"[{text}]({target.relative_to(config.docs_dir).as_posix()}{anchor})"
        name = target.relative_to(ROOT).as_posix()
        return text if text == name else f"{text} (`{name}`)"

    return _LINK.sub(link, markdown)
