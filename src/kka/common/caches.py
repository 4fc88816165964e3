"""Where cached things lie."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where cached pictures and models lie: `$KKA_CACHE`, else `~/.cache/kka`. It need not exist yet."""
    named = os.environ.get("KKA_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "kka"
