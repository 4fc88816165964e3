"""The run directory: stages that are committed whole or not at all, a lock, and the ledger of what they cost.

A stage works in a hidden folder beside its own; the rename to its name, last, is the commit. A killed run finds its
finished stages by name and does the rest again. What is read back is checked against what was committed.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kka import __version__
from kka.common.begun import (
    Free,
    changed,
    completed,
    is_begun,
    read_config,
    read_record,
    require_same,
    require_unedited,
    write_config,
)
from kka.common.disk import CONFIG_FILE, RECORD_FILE, STAGE_FILE, DamagedError, is_full, is_refused, remedy
from kka.common.files import read_json, sync, sync_tree, write_atomically
from kka.common.hold import Hold
from kka.common.ledger import Counts, Entry, Ledger
from kka.common.manifest import check_stage, digest_of, manifest, read_entry
from kka.common.memory import PeakMemory
from kka.errors import UserError


class Store:
    """A run directory that one process holds. Use it as a context manager."""

    def __init__(
        self,
        root: Path,
        config: dict[str, Any],
        *,
        resume: bool = False,
        complete: Callable[[dict[str, Any]], dict[str, Any]] = dict,
        free: Free | None = None,
    ) -> None:
        """Create `root` with `config.yaml`, or take up the run in it.

        Args:
            complete: Adds to a stored configuration the settings that there were none of when it was written.
            free: Which settings may be others than the run was begun with. `changed` says which are.

        Raises:
            UserError: no permission to write; a run that is there already without `resume`; nothing to resume;
                another configuration than the one it was started with, or an edited one; held by another process.
        """
        self.root = root
        self.config = config
        self.changed: dict[str, tuple[Any, Any]] = {}
        """Setting -> what it was and is, since the run was last taken up."""
        self._complete, self._free = complete, free
        self._hold: Hold | None = None
        self._before: dict[str, str | None] = {}
        self._sound: set[str] = set()  # stages that were compared with what they committed
        with self.guarded():
            if resume and not is_begun(root):
                raise _nothing_to_resume(root)
            self._made = not root.exists()
            try:
                root.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as error:  # what /proc says to a new folder
                raise UserError(f"cannot create the folder {root}: {error.strerror}. Choose another --out.") from error
            self._hold = Hold(root / ".lock", root)
            try:
                self._open(resume)
            except BaseException:
                self.__exit__()
                raise

    def _open(self, resume: bool) -> None:
        """Write the configuration, or compare it. Under the lock, so that no other process does so too."""
        if is_begun(self.root) and not resume and not self._empty():
            raise UserError(
                f"{self.root} holds a run already. Go on with it: kka run --out {self.root} --resume; "
                f"or choose another --out."
            )
        self.record = read_record(self.root) if resume else {}
        if resume:
            require_unedited(self.root, free=self._free, complete=self._complete)
            stored = read_config(self.root)
            whole = completed(self.root, stored, self._complete)
            require_same(whole, self.config, self.root, free=self._free)
            self.changed = changed(whole, self.config)
            if stored == self.config == self.record.get("config") and (self.root / CONFIG_FILE).is_file():
                return  # else settings have come since it was begun, or may change
        for name in (CONFIG_FILE, RECORD_FILE):
            file = self.root / name
            self._before[name] = file.read_text(encoding="utf-8") if file.is_file() and resume else None
        history = [{"setting": name, "was": old, "is": new} for name, (old, new) in self.changed.items()]
        if history:
            self.record["changes"] = [*self.record.get("changes", ()), *history]
        self.remember(config=self.config)
        write_atomically(self.root / CONFIG_FILE, write_config(self.config))

    def _empty(self) -> bool:
        """Whether the run in the folder has nothing to lose, as no stage of it was ever finished."""
        recorded = (self.root / RECORD_FILE).is_file()  # else it may be no run, or that of an old version
        return recorded and not any(self.root.glob(f"*/**/{STAGE_FILE}"))

    def remember(self, **facts: Any) -> None:
        """Write facts into run.json, by which a resumed run knows that it is the same."""
        self.record = {"kka": __version__, **self.record, **facts}
        self.write(RECORD_FILE, json.dumps(self.record, indent=1, ensure_ascii=False))

    def withdraw(self) -> None:
        """Take back a start that came to nothing, so that the same folder serves a corrected configuration."""
        for name, text in self._before.items():
            if text is None:
                (self.root / name).unlink(missing_ok=True)
            else:
                self.write(name, text)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        if self._hold is not None:
            self._hold.release()
            self._hold = None
            if self._made:
                with contextlib.suppress(OSError):  # it holds something
                    self.root.rmdir()

    def done(self, name: str) -> bool:
        """Whether the stage was committed."""
        return (self.root / name / STAGE_FILE).is_file()

    def stage(self, name: str, compute: Callable[[Path], Counts], *, after: Sequence[str] = ()) -> Path:
        """The folder of the stage `name`; `compute` fills it, unless that was done before.

        `compute` gets an empty folder and returns counts for the ledger ("images", "tokens", …).

        Args:
            after: The stages that it is made from. One of them that was made anew since, and came out otherwise, is an
                error.

        Raises:
            UserError: it was done before, and its files are not those that were committed; the disk is full.
        """
        final = self.root / name
        if self.done(name):
            if name not in self._sound:
                check_stage(self.root, name)
                self._check_sources(name)
                self._sound.add(name)
            return final
        work = final.with_name(f".{final.name}.part")
        with self.guarded():
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            started = time.perf_counter()
            with PeakMemory() as memory:
                counts = compute(work)
            if memory.machine_seconds:
                counts = {**counts, "machine_seconds": round(memory.machine_seconds, 3)}
            entry = Entry(seconds=round(time.perf_counter() - started, 3), peak_mb=memory.peak_mb, counts=counts)
            marker = entry.as_dict() | {"files": manifest(work)}
            if sources := {source: digest for source in after if (digest := digest_of(self.root, source))}:
                marker["after"] = sources
            write_atomically(work / STAGE_FILE, json.dumps(marker, indent=1))
            sync_tree(work)
            shutil.rmtree(final, ignore_errors=True)  # a folder without its marker was never committed
            work.rename(final)
            sync(final.parent)
        self._sound.add(name)
        return final

    def _check_sources(self, name: str) -> None:
        """Raises UserError where a stage that `name` was made from is another one now."""
        marker = self.root / name / STAGE_FILE
        for source, digest in read_json(marker).get("after", {}).items():
            now = digest_of(self.root, source)
            if now is not None and now != digest:
                raise DamagedError(
                    f"{self.root / name} was made from another {source} than is there now: that was made again, and "
                    f"came out otherwise. {remedy(marker)}"
                )

    def fork(self, source: Path, names: Sequence[str]) -> None:
        """Take over the stages called `names` from the run in `source`, each whole; those that are here stay.

        The caller knows that this run would make them the same.
        """
        for name in names:
            final = self.root / name
            if self.done(name) or not (source / name / STAGE_FILE).is_file():
                continue
            check_stage(source, name)
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
            if is_full(error):
                raise UserError(
                    f"the disk is full ({self.root}): {error}. What was finished is kept. Free some space, "
                    f"then: kka run --out {self.root} --resume"
                ) from error
            if isinstance(error, OSError) and is_refused(error):
                raise UserError(
                    f"cannot write to {error.filename or self.root}: {error.strerror}. Choose another --out, "
                    f"a folder that you may write to."
                ) from error
            raise


def _nothing_to_resume(root: Path) -> UserError:
    return UserError(f"nothing to resume: expected a run's config.yaml in {root}; got none. Leave out --resume.")
