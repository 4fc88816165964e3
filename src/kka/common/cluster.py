"""Pieces of work on the machines of a Ray cluster. The one file that imports ray.

Ray chooses the machine, waits for what a piece depends on, and does a piece again elsewhere where its process or its
machine is lost. What a piece gives comes back to the process that asked for it, which alone writes it to a store.
"""

import os
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NewType

from kka import __version__
from kka.common.copies import Copies
from kka.common.memory import spent_elsewhere
from kka.common.pieces import RETRIES, Here, LostError, do, versions
from kka.common.workers import Answer
from kka.errors import UserError
from kka.settings.needs import Needs

LOCAL, AUTO = "local", "auto"
STARTED_HERE = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
REACH_SECONDS = 10.0
"""So long is an address tried."""
LOOK_SECONDS = 5.0
"""From one look at which machines are there to the next."""
GRACE_SECONDS = 180.0
"""So long has a machine to say which versions it has."""

Piece = NewType("Piece", object)
"""Work that was asked for, or a value that was shared: an argument of later work, wherever either is done."""


class Cluster:
    """A Ray cluster, while a `with` block runs; one that was started here ends with it.

    Args:
        address: auto (the cluster that this machine is part of), local (one of this machine alone, started here),
            host:port, or ray://host:port.
        needs: Of each piece of work, where it does not say otherwise.

    Raises:
        UserError: no ray installed; no such cluster, one of other versions, or without a machine that has what is
            needed.
    """

    def __init__(self, address: str, needs: Needs | None = None) -> None:
        self.needs = needs or Needs()
        self._ray = _library()
        self._joined = not self._ray.is_initialized()  # else the caller's own script did, and will leave it
        if self._joined:
            _join(self._ray, address)
        self._begin = self._ray.remote(do)
        self._alive: dict[str, str] = {}
        self._names: dict[Any, str] = {}
        self._waiting = ThreadPoolExecutor(1)

    def __enter__(self) -> "Cluster":
        try:
            self._alive = self._machines()
            self._require_room()
            self._require_versions()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._joined:
            self._ray.shutdown()  # with all that is not done yet
        self._waiting.shutdown(wait=False, cancel_futures=True)

    # --- what there is ---------------------------------------------------------------------------------------------

    @property
    def machines(self) -> int:
        return len(self._alive)

    def slots(self, threads: int | None = None) -> int:
        """How many pieces fit at a time, as the cluster is now; `threads` as `submit` takes them."""
        needs, found = self._needs_of(threads), 0
        for node in self._nodes():
            has = node["Resources"]
            fits = int(has.get("CPU", 0) // needs.cpus)
            found += min(fits, int(has.get("GPU", 0) // needs.gpus)) if needs.gpus else fits
        return max(1, found)

    def _needs_of(self, threads: int | None) -> Needs:
        """As many cores as threads, or those of the largest machine, where that has fewer."""
        if threads is None:
            return self.needs
        most = max((int(node["Resources"].get("CPU", 0)) for node in self._nodes()), default=1)
        return Needs(cpus=max(1, min(threads, most)), gpus=self.needs.gpus)

    # --- work ------------------------------------------------------------------------------------------------------

    def share(self, value: Any) -> Piece:
        """A value for many pieces of work, sent once to each machine that needs it."""
        return Piece(self._ray.put(value))

    def submit(
        self, work: Callable[..., Any], *arguments: Any, threads: int | None = None, name: str = "a piece of work"
    ) -> Piece:
        """Have a function of a module done somewhere. Of its arguments, pieces arrive as their values.

        Args:
            threads: With so many, and as many cores. Default: as `needs` has it.
            name: As people are told of it.
        """
        needs = self._needs_of(threads)
        asked = self._begin.options(num_cpus=needs.cpus, num_gpus=needs.gpus, max_retries=RETRIES, name=name)
        piece = asked.remote(self._here(threads or needs.cpus), work, *arguments)
        self._names[piece] = name
        return Piece(piece)

    def result(self, piece: Piece) -> Any:
        """What a piece of work gave.

        Raises:
            LostError: its process or its machine ended, again and again.
            Exception: what the work raised.
        """
        while not self._wait([piece]):
            pass
        name = self._names.pop(piece, "a piece of work")
        try:
            answer: Answer = self._ray.get(piece)
        except self._ray.exceptions.RayTaskError as error:  # what the work itself raises comes as an answer
            raise UserError(
                f"{name}: a machine of the Ray cluster cannot begin it: {_last_line(error)}. Is the same installed "
                f"there, and can your own classes be imported?"
            ) from error
        except self._ray.exceptions.RayError as error:
            raise LostError(
                f"{name}: its process ended each time that it was tried ({_first_line(error)}), as happens where "
                f"memory runs out. What was finished is kept. --needs.cpus and --needs.gpus give it more of a machine."
            ) from error
        spent_elsewhere(answer.seconds, answer.peak_mb)
        return answer.given()

    def call(self, work: Callable[..., Any], *arguments: Any, **given: Any) -> Any:
        """`submit` and `result`."""
        return self.result(self.submit(work, *arguments, **given))

    def hands(self, number: int) -> "list[Hand]":
        """Each to wait for one piece at a time, in a thread of its own."""
        return [Hand(self) for _ in range(number)]

    def copies(self, build: Callable[..., Any], *arguments: Any) -> "Copies":
        """Copies of what `build` gives, which is a function of a module, as many as there is room for."""
        return Copies(self, build, arguments)

    def finished(self, pieces: Sequence[Piece]) -> Iterator[Piece]:
        """Each of the pieces as it ends, whether with a result or an error. Warns of machines that are lost."""
        left = dict.fromkeys(pieces)
        while left:
            for piece in self._wait(list(left)):
                del left[piece]
                yield piece

    def everywhere(self, work: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """What `work` gives on each machine that does work, by the machine's name.

        Raises:
            UserError: one that does not answer, or cannot import kka; what the work raises, with the name.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        pieces = []
        for node in self._nodes():
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked = self._begin.options(num_cpus=0, scheduling_strategy=there)
            pieces.append((_name(node), asked.remote(self._here(None), work, *arguments)))
        found = {}
        for name, piece in pieces:
            try:
                answer: Answer = self._ray.get(piece, timeout=GRACE_SECONDS)
                found[name] = answer.given()
            except self._ray.exceptions.GetTimeoutError as error:
                raise UserError(f"{name} of the Ray cluster has not answered for {GRACE_SECONDS:.0f} s") from error
            except (self._ray.exceptions.TaskUnschedulableError, self._ray.exceptions.NodeDiedError):
                continue  # lost meanwhile
            except self._ray.exceptions.RayError as error:
                raise UserError(
                    f"{name} of the Ray cluster cannot do kka's work: expected kka {__version__} to be installed "
                    f"there, as here; got {_last_line(error)}"
                ) from error
            except UserError as error:
                raise UserError(f"{name} of the Ray cluster: {error}") from error
        return found

    # --- inside ----------------------------------------------------------------------------------------------------

    def _here(self, threads: int | None) -> "Here":
        return Here(folder=str(Path.cwd()), threads=threads, gpu=bool(self.needs.gpus))

    def _wait(self, pieces: list[Any]) -> list[Any]:
        """Those that ended, at least one of them; none where that takes long. Warns of machines that are lost."""
        wait = partial(self._ray.wait, pieces, timeout=LOOK_SECONDS)
        # In a thread: Ray would turn what a signal raises here, such as the end of a command, into a Ctrl-C.
        main = threading.current_thread() is threading.main_thread()
        ready: list[Any] = (self._waiting.submit(wait).result() if main else wait())[0]
        if not ready:
            self._look()
        return ready

    def _nodes(self) -> list[dict[str, Any]]:
        """Those that do work."""
        return [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]

    def _machines(self) -> dict[str, str]:
        return {node["NodeID"]: _name(node) for node in self._nodes()}

    def _look(self) -> None:
        now = self._machines()
        for lost in self._alive.keys() - now.keys():
            warnings.warn(f"{self._alive[lost]} of the Ray cluster is lost: its work is done again elsewhere",
                          stacklevel=3)  # fmt: skip
        self._alive = now

    def _require_room(self) -> None:
        needs, nodes = self.needs, self._nodes()
        if not any(
            node["Resources"].get("CPU", 0) >= needs.cpus and node["Resources"].get("GPU", 0) >= min(needs.gpus, 1)
            for node in nodes
        ):
            has = "; ".join(
                f"{_name(node)} with {node['Resources']['CPU']:g} cores, {node['Resources'].get('GPU', 0):g} GPUs"
                for node in nodes
            )
            raise UserError(f"--needs: expected a machine in the Ray cluster with {needs.cpus} cores and "
                            f"{needs.gpus:g} GPUs; got {has or 'none with a core'}")  # fmt: skip
        if not needs.gpus and (gpus := sum(node["Resources"].get("GPU", 0) for node in nodes)):
            warnings.warn(f"the cluster's {gpus:g} GPUs are not used: --needs.gpus says how much of one a piece of "
                          "work gets", stacklevel=3)  # fmt: skip

    def _require_versions(self) -> None:
        here = versions()
        for name, there in self.everywhere(versions).items():
            if there != here:
                raise UserError(f"{name} of the Ray cluster: expected {here}, as here; got {there}")


class Hand:
    """Waits for one piece of work after the other: for `kka.common.workers.side_by_side`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._piece: Any = None

    def call(self, work: Callable[..., Any], *arguments: Any, **given: Any) -> Any:
        """As `Cluster.call`."""
        self._piece = self._cluster.submit(work, *arguments, **given)
        return self._cluster.result(self._piece)

    def end(self) -> None:
        """What it waits for is no longer wanted."""
        if self._piece is not None:
            with suppress(Exception):  # it is done, or the cluster is gone
                self._cluster._ray.cancel(self._piece, force=True)


def _library() -> Any:
    """The module ray. What is started here tells its makers nothing, and its workers are as urgent as this process."""
    os.environ |= STARTED_HERE
    try:
        import ray
    except ImportError as error:
        raise UserError("--ray: it needs the package ray: pip install 'kka[ray]'") from error
    return ray


def _join(ray: Any, address: str) -> None:
    """Connect to the cluster, or start one here. A SIGTERM means to this process what it meant before.

    Raises:
        UserError: there is none, or one of other versions.
    """
    how: dict[str, Any] = {"address": LOCAL, "include_dashboard": False}  # not a cluster that runs here already
    if address != LOCAL:
        how = {"address": address}
        _require_reachable(os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else address)
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**how, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        with suppress(Exception):
            ray.shutdown()
        start = ("Start one: ray start --head; where it asks for a token, set RAY_AUTH_MODE=token here too. Or give "
                 "--ray local, for this machine alone.")  # fmt: skip
        what = "no Ray cluster runs on this machine" if address == AUTO else f"the Ray cluster {address} does not serve"
        raise UserError(f"--ray: {what}: {_last_line(error)} {start}") from error
    finally:
        if main and before is not None:
            signal.signal(signal.SIGTERM, before)


def _require_reachable(address: str) -> None:
    """Raises UserError where nothing listens at host:port: Ray itself would try for minutes."""
    if address == AUTO:
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--ray: expected {AUTO}, {LOCAL}, host:port or ray://host:port; got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"--ray: nothing answers at {address} ({error}). Is it the address that ray start --head printed, and is "
            f"the port open from here?"
        ) from error


def _name(node: dict[str, Any]) -> str:
    """Of a machine, as its people know it."""
    return f"the machine {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
