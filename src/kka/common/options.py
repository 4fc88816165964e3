"""Settings as the words of a command line."""

from typing import Any


def as_words(given: dict[str, Any], usual: dict[str, Any], *, unnamed: str) -> list[str]:
    """Option and values of each setting that is not as usual.

    Args:
        given: Name -> value, as `kka.common.begun.flat` gives it.
        usual: The same, of the defaults.
        unnamed: The group of settings, with its dot, that stand on the command line without its name.
    """
    words = []
    for name, value in given.items():
        if value != usual[name]:
            values = value if isinstance(value, list | tuple) else [] if value is True else [value]
            words += [f"--{name.removeprefix(unnamed).replace('_', '-')}", *map(str, values)]
    return words
