"""What a run was begun with: config.yaml, which people read, and run.json, by which a resumed run knows it again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from kka.common.disk import CONFIG_FILE, RECORD_FILE, reading
from kka.common.files import read_json
from kka.errors import UserError

Config = dict[str, Any]
Free = Callable[[str, Any, Any], bool]
"""Whether a setting, called "language.dpo_beta", may go from one value to another in a run that is begun."""


def is_begun(root: Path) -> bool:
    """Whether there is a run in the folder."""
    return (root / CONFIG_FILE).is_file() or (root / RECORD_FILE).is_file()


def read_config(root: Path) -> Config:
    """The configuration of the run in `root`: config.yaml, or where that is missing what run.json says.

    Raises:
        UserError: it cannot be read.
    """
    file = root / CONFIG_FILE
    if not file.exists() and (record := read_record(root)):
        return dict(record["config"])
    with reading(file):
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(loaded, dict):
            raise TypeError(f"expected settings, each as name: value; got {type(loaded).__name__}")
    return loaded


def write_config(config: Config) -> str:
    """The text of config.yaml."""
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def read_record(root: Path) -> dict[str, Any]:
    """What run.json holds: the settings that the run was begun with, and digests of its data; of an old run nothing.

    Raises:
        UserError: it cannot be read.
    """
    file = root / RECORD_FILE
    if not file.exists():
        return {}
    record = read_json(file)
    with reading(file):
        if not isinstance(record["config"], dict):
            raise TypeError("expected settings under config")
    return record


def require_unedited(root: Path, *, free: Free | None = None, complete: Callable[[Config], Config] = dict) -> None:
    """Raises UserError where config.yaml says other settings than the run was begun with.

    Args:
        free: Which may have changed.
        complete: Adds the settings that there were none of when a configuration was written.
    """
    if not (record := read_record(root)):
        return
    begun, says = completed(root, record["config"], complete), completed(root, read_config(root), complete)
    if lines := differences(begun, says, free=free, words=("begun with", "config.yaml has")):
        raise UserError(
            f"{root / CONFIG_FILE} was edited after the run was begun:\n{lines}\nPut that back, or remove it, and "
            f"kka run --out {root} --resume writes it as it was. For other settings start anew, with another --out."
        )


def completed(root: Path, config: Config, complete: Callable[[Config], Config]) -> Config:
    """`complete(config)`; an error names the file."""
    try:
        with reading(root / CONFIG_FILE):
            return complete(config)
    except UserError as error:
        if str(root) in str(error):
            raise
        raise UserError(f"{root / CONFIG_FILE}: {error}") from error


def require_same(stored: Config, given: Config, root: Path, *, free: Free | None = None) -> None:
    """Raises UserError that shows every difference between two configurations, but for what is free to change."""
    if lines := differences(stored, given, free=free):
        raise UserError(
            f"--resume: {root} was started with another configuration:\n{lines}\n"
            f"Leave these options out to go on, or choose another --out for a new run."
        )


def changed(stored: Config, given: Config) -> dict[str, tuple[Any, Any]]:
    """Setting -> its value in either, where they differ."""
    old, new = flat(stored), flat(given)
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return {name: (old.get(name), new.get(name)) for name in names}


def differences(
    stored: Config, given: Config, *, free: Free | None = None, words: tuple[str, str] = ("started with", "got")
) -> str:
    """A line for each setting in which two configurations differ; empty where they are the same."""
    return "\n".join(
        f"  {name}: {words[0]} {old!r}, {words[1]} {new!r}"
        for name, (old, new) in changed(stored, given).items()
        if free is None or not free(name, old, new)
    )


def flat(config: Config, prefix: str = "") -> Config:
    """One level: {"sad": {"epochs": 40}} becomes {"sad.epochs": 40}."""
    found: Config = {}
    for name, value in config.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
