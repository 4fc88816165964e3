"""The run directory: stages that are committed whole or not at all, a lock, and the ledger of what they cost.

A stage works in a hidden folder beside its own; the rename to its name, last, is the commit. A killed run finds its
finished stages by name and does the rest again.
"""

import contextlib
import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from kka.common.files import sync, sync_tree, write_atomically
from kka.common.ledger import Counts, Entry, Ledger
from kka.errors import UserError

STAGE_FILE = "stage.json"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}


class Store:
    """A run directory that one process holds. Use it as a context manager."""

    def __init__(
        self,
        root: Path,
        config: dict[str, Any],
        *,
        resume: bool = False,
        complete: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        """Create `root` with `config.yaml`, or take up the run in it.

        `complete` adds to a stored configuration the settings that there were none of when it was written.

        Raises:
            UserError: no permission to write; a run that is there already without `resume`; nothing to resume;
                another configuration than the one it was started with; held by another process.
        """
        self.root = root
        self.config = config
        self._complete = complete
        self._lock: FileLock | None = None
        self._withdrawn = False
        with self.guarded():
            if resume and not (root / "config.yaml").is_file():
                raise _nothing_to_resume(root)
            try:
                root.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as error:  # what /proc says to a new folder
                raise UserError(f"cannot create the folder {root}: {error.strerror}. Choose another --out.") from error
            self._take_lock()
            try:
                self._open(resume)
            except BaseException:
                self.__exit__()
                raise

    def _open(self, resume: bool) -> None:
        """Write the configuration, or compare it. Under the lock, so that no other process does so too."""
        exists = (self.root / "config.yaml").is_file()
        if not resume and next(self.root.rglob(STAGE_FILE), None) is None:
            exists = False  # a run that was killed before its first stage holds nothing
        if exists and not resume:
            raise UserError(
                f"{self.root} holds a run already. Go on with it: kka run --out {self.root} --resume; "
                f"or choose another --out."
            )
        if exists:
            stored = read_config(self.root)
            require_same(self._complete(stored), self.config, self.root)
            if stored == self.config:
                return  # else settings have come since it was begun
        text = yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True)
        write_atomically(self.root / "config.yaml", text)

    def withdraw(self) -> None:
        """Take back a run that never began, so that the same folder serves a corrected configuration."""
        if next(self.root.rglob(STAGE_FILE), None) is None:
            (self.root / "config.yaml").unlink(missing_ok=True)
            self._withdrawn = True

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.root / ".holder").unlink(missing_ok=True)
                if self._withdrawn:
                    (self.root / ".lock").unlink(missing_ok=True)
            self._lock.release()
            self._lock = None
            if self._withdrawn:
                with contextlib.suppress(OSError):  # others' files in it
                    self.root.rmdir()

    def done(self, name: str) -> bool:
        """Whether the stage was committed."""
        return (self.root / name / STAGE_FILE).is_file()

    def stage(self, name: str, compute: Callable[[Path], Counts]) -> Path:
        """The folder of the stage `name`; `compute` fills it, unless that was done before.

        `compute` gets an empty folder and returns counts for the ledger ("images", "tokens", …).
        """
        final = self.root / name
        if self.done(name):
            return final
        work = final.with_name(f".{final.name}.part")
        with self.guarded():
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            started = time.perf_counter()
            with PeakMemory() as memory:
                counts = compute(work)
            entry = Entry(seconds=round(time.perf_counter() - started, 3), peak_mb=memory.peak_mb, counts=counts)
            write_atomically(work / STAGE_FILE, json.dumps(entry.as_dict(), indent=1))
            sync_tree(work)
            shutil.rmtree(final, ignore_errors=True)  # a folder without its marker was never committed
            work.rename(final)
            sync(final.parent)
        return final

    def fork(self, source: Path, names: Sequence[str]) -> None:
        """Take over the stages called `names` from the run in `source`, each whole; those that are here stay.

        The caller knows that this run would make them the same.
        """
        for name in names:
            final = self.root / name
            if self.done(name) or not (source / name / STAGE_FILE).is_file():
                continue
            work = final.with_name(f".{final.name}.part")
            with self.guarded():
                shutil.rmtree(work, ignore_errors=True)
                shutil.copytree(source / name, work)
                sync_tree(work)
                shutil.rmtree(final, ignore_errors=True)
                work.rename(final)
                sync(final.parent)

    def entry(self, name: str) -> Entry:
        """What a committed stage cost."""
        return read_entry(self.root, name)

    def ledger(self) -> Ledger:
        """What every stage cost."""
        found = sorted(p.relative_to(self.root) for p in self.root.rglob(STAGE_FILE))
        names = [str(p.parent) for p in found if not any(part.startswith(".") for part in p.parts)]
        return Ledger({name: self.entry(name) for name in names})

    def write(self, name: str, text: str) -> Path:
        """One file at the top of the run directory, atomically."""
        with self.guarded():
            write_atomically(self.root / name, text)
        return self.root / name

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Turns what the disk refuses into an error that says what to do."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if _is_full(error):
                raise UserError(
                    f"the disk is full ({self.root}): {error}. What was finished is kept. Free some space, "
                    f"then: kka run --out {self.root} --resume"
                ) from error
            if isinstance(error, OSError) and error.errno in _REFUSED:
                raise UserError(
                    f"cannot write to {error.filename or self.root}: {error.strerror}. Choose another --out, "
                    f"a folder that you may write to."
                ) from error
            raise

    def _take_lock(self) -> None:
        lock, holder = FileLock(self.root / ".lock"), self.root / ".holder"
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            pid = holder.read_text().strip() if holder.is_file() else ""
            raise UserError(
                f"{self.root} is in use by another process (pid {pid or 'unknown'}). Wait for it, or choose another "
                f"--out."
            ) from error
        self._lock = lock
        holder.write_text(str(os.getpid()))


def _is_full(error: Exception) -> bool:
    """Whether the disk is full. numpy and safetensors say so in words alone, without an errno."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NO_SPACE
    text = str(error)
    short_write = isinstance(error, OSError) and "requested and" in text and text.endswith("written")
    return short_write or any(f"(os error {number})" in text for number in _NO_SPACE)


def _nothing_to_resume(root: Path) -> UserError:
    return UserError(f"nothing to resume: expected a run's config.yaml in {root}; got none. Leave out --resume.")


def read_entry(root: Path, name: str) -> Entry:
    """What the stage `name` of the run in `root` cost."""
    return Entry.from_dict(json.loads((root / name / STAGE_FILE).read_text(encoding="utf-8")))


def read_config(root: Path) -> dict[str, Any]:
    """The configuration that a run was started with."""
    loaded: dict[str, Any] = yaml.safe_load((root / "config.yaml").read_text())
    return loaded


def require_same(stored: dict[str, Any], given: dict[str, Any], root: Path) -> None:
    """Raises UserError that shows every difference between two configurations."""
    if lines := differences(stored, given):
        raise UserError(
            f"--resume: {root} was started with another configuration:\n{lines}\n"
            f"Leave these options out to go on, or choose another --out for a new run."
        )


def differences(stored: dict[str, Any], given: dict[str, Any]) -> str:
    """A line for each setting in which two configurations differ; empty where they are the same."""
    old, new = flat(stored), flat(given)
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return "\n".join(f"  {name}: started with {old.get(name)!r}, got {new.get(name)!r}" for name in names)


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """One level: {"sad": {"epochs": 40}} becomes {"sad.epochs": 40}."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


class PeakMemory:
    """The largest resident memory of this process while the block runs, sampled 20 times a second."""

    def __enter__(self) -> "PeakMemory":
        import psutil

        self._process = psutil.Process()
        self._peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._peak = max(self._peak, self._process.memory_info().rss)

    @property
    def peak_mb(self) -> float:
        return round(self._peak / 2**20, 1)
