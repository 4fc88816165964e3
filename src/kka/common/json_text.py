"""JSON that people, servers and models wrote: what is none raises a ValueError, however it is built."""

import json
from typing import Any


def parse_json(text: str | bytes, **how: Any) -> Any:
    """As `json.loads`.

    Raises:
        json.JSONDecodeError: it is no JSON, or nested deeper than Python can read (which raises no ValueError of
            itself).
        UnicodeDecodeError: bytes that are no text.
    """
    try:
        return json.loads(text, **how)
    except RecursionError:
        raise json.JSONDecodeError("lists or objects in one another, too deep to be read", str(text[:40]), 0) from None
