"""Whether pictures fit in memory, asked before they are read."""

from kka.errors import UserError

SHARE = 0.8
"""Of the free memory, at most: training needs some as well."""


def require_room(pictures: int, side: int) -> None:
    """Raises UserError where so many square RGB pictures of `side` pixels are more than this machine has room for."""
    import psutil

    need, free = pictures * side * side * 3, psutil.virtual_memory().available
    if need > SHARE * free:
        raise UserError(
            f"size: {pictures:,} pictures of {side:,} pixels a side need {need / 2**30:,.1f} GiB of memory, and "
            f"{free / 2**30:,.1f} GiB are free. Give a smaller --size, or fewer pictures."
        )
