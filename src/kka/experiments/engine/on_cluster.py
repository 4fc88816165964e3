"""Works through cells on a Ray cluster: language models, pools and cells as pieces of work that depend on each other.

Nodes have the data sets' folder at the same path, and no other disk in common with the process that asks: what a piece
is made from goes to its node in a packed form, what it makes comes back, and this process alone writes it, to the files
that runs on one machine write. So one goes on where the other was stopped.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kka.algorithm.folder import RunFolder
from kka.common.cluster import Cluster, Piece
from kka.common.packed import install, pack, unpack
from kka.errors import UserError
from kka.experiments.engine.arms import TRACES
from kka.experiments.engine.cell_task import data_digest, data_folder, other_of
from kka.experiments.engine.cells import Cell, Results, Row, claim
from kka.experiments.engine.compute import compute, task_of
from kka.experiments.engine.language_models import MADE_FROM, ensure_language_model, language_folder
from kka.experiments.engine.place import Place
from kka.experiments.engine.pools import (
    check_pool,
    ensure_pool,
    forerunner,
    open_pool,
    own_language,
    pool_config,
    pool_folder,
    pool_name,
)
from kka.experiments.engine.provenance import changed_settings, check_settings, settings_of
from kka.experiments.engine.runner import OnCell, estimate
from kka.experiments.engine.tasks import TEXTURES, dataset
from kka.experiments.engine.traces import ensure_traces, with_traces

Kept = Callable[[bytes], None]
"""Writes what a piece of work made."""


def run_cells_on(
    cluster: Cluster,
    cells: Sequence[Cell],
    place: Place,
    results: Results,
    told: OnCell | None = None,
    *,
    redo: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """`run_cells` on a cluster: the same rows in the same file.

    Args:
        say: Told, in a line of text, what is made beside the cells.

    Raises:
        UserError: as `run_cells`; a node without the data or with other data; a cell whose process ends every time.
    """
    tell = told or (lambda *_: None)
    if not redo:
        check_settings(cells, place, results)
    changed = changed_settings(cells, place, results) if redo else {}
    old = {name: made_with for name, (made_with, _) in changed.items()}

    def stands(row: Row) -> bool:
        return row.id not in old or row.made_with != old[row.id]

    done = {row.id for row in results.rows() if stands(row)}
    left = [cell for cell in cells if cell.id not in done]
    if not left:
        return
    data = Data.of(left, place)
    cluster.everywhere(require_data, data)
    work = _Work(cluster, _absolute(place), data, left)
    pieces = {work.cell(cell): cell for cell in left}
    whole = estimate(left, results.rows(), list(work.pools_made.values()), len(work.models))
    slots = cluster.slots()
    tell(left[0], None, len(cells) - len(left), len(cells), None if whole is None else whole / slots)
    beside = f"{len(work.pools_made)} pools and {len(work.models)} language models"
    say(f"{len(left)} cells, {beside}, {slots} at a time")
    number = len(cells) - len(left)
    for piece in cluster.finished([*pieces, *work.made]):
        value = cluster.result(piece)
        if piece in pieces:
            cell = pieces[piece]
            results.append(value, settings_of(cell, place), unless=stands)
            number += 1
            tell(cell, value, number, len(cells), None)
        else:
            what, keep = work.made[piece]
            keep(value)
            say(f"{what} is made")


def _absolute(place: Place) -> Place:
    """With a path of weights that holds in any working folder."""
    weights = Path(place.backbone.weights)
    if not weights.is_file():
        return place
    return dataclasses.replace(place, backbone=dataclasses.replace(place.backbone, weights=str(weights.resolve())))


@dataclass(frozen=True, kw_only=True)
class Data:
    """What the nodes must find at the same path as this process."""

    folder: Path
    """That holds the data sets' folders, absolute."""
    digests: Mapping[str, str]
    """Data set -> of its files."""

    @classmethod
    def of(cls, cells: Sequence[Cell], place: Place) -> "Data":
        names = {cell.dataset for cell in cells} | {other_of(cell).name for cell in cells if cell.arm == "other"}
        held = [name for name in sorted(names - {TEXTURES}) if not dataset(name).embedded]
        return cls(folder=place.data.resolve(), digests={name: data_digest(name, place.data) for name in held})


@dataclass(frozen=True)
class _Work:
    """What was asked of the cluster: each language model and each pool once, however many cells need it."""

    cluster: Cluster
    place: Place
    data: Data
    wanted: Sequence[Cell]
    models: dict[str, Piece] = field(default_factory=dict)
    """Language models that are made, by their folders."""
    pools: dict[str, Piece] = field(default_factory=dict)
    """Pools that are there or made, packed."""
    pools_made: dict[str, Cell] = field(default_factory=dict)
    made: dict[Piece, tuple[str, Kept]] = field(default_factory=dict)
    """What it is that is made, and how to keep it."""

    def cell(self, cell: Cell) -> Piece:
        given = [self.pool(cell)] if cell.needs_pool else []
        return self.cluster.submit(compute_there, cell, self.place, self.data, *given, name=cell.id)

    def pool(self, cell: Cell) -> Piece:
        """The cell's pool, packed. One that was begun is gone on with."""
        name, work = pool_name(cell), self.place.work
        if name in self.pools:
            return self.pools[name]
        out, names = pool_folder(cell, work), [f"pools/{name}"]
        check_pool(cell, self.place.data, work)
        of_pool = [each for each in self.wanted if each.needs_pool and pool_name(each) == name]
        traces = any(each.arm == TRACES or with_traces(each) for each in of_pool)
        finished = (out / "done").is_file()
        if finished and (RunFolder(out).has_traces or not traces):
            self.pools[name] = self.cluster.share(pack(work, names))
            return self.pools[name]
        given = []
        with claim(work / "claims", str(out)) as mine:
            if mine and out.is_dir():
                given.append(self.cluster.share(pack(work, names)))
        usual, shared = forerunner(cell, self.place.data, work)
        if shared and not RunFolder(out).begun:
            given.append(self.pool(usual))
        if own_language(cell, pool_config(cell, self.place.data, work), work):
            given.append(self.language_model(cell))
        piece = self.cluster.submit(make_pool, cell, self.place, self.data, traces, *given, name=f"pool {name}")
        self.pools[name] = piece
        if not finished:
            self.pools_made[name] = cell
        self.made[piece] = f"pool {name}", lambda packed: self._keep_pool(cell, packed)
        return piece

    def language_model(self, cell: Cell) -> Piece:
        """The small language model of the cell's task, packed."""
        folder = language_folder(cell, dataset(cell.dataset), self.place.work)
        name, names = folder.name, _files_of_model(folder)
        if (folder / "config.json").is_file():
            ensure_language_model(cell, self.place.data, self.place.work)  # which compares what it was made from
            return self.cluster.share(pack(self.place.work, names))
        if name not in self.models:
            what = f"language model {name}"
            self.models[name] = self.cluster.submit(make_language_model, cell, self.place, self.data, name=what)
            self.made[self.models[name]] = what, lambda packed: self._keep_model(folder, packed)
        return self.models[name]

    def _keep_model(self, folder: Path, packed: bytes) -> None:
        with claim(self.place.work / "claims", str(folder), wait=True):
            if not (folder / "config.json").is_file():
                install(packed, self.place.work, _files_of_model(folder))

    def _keep_pool(self, cell: Cell, packed: bytes) -> None:
        """In the place of what was there; but where another process is at it, that is left to go on."""
        out = pool_folder(cell, self.place.work)
        with claim(self.place.work / "claims", str(out)) as mine:
            if mine:
                install(packed, self.place.work, [f"pools/{out.name}"])
                with open_pool(cell, out, self.place.data, self.place.work):
                    pass  # it says now where things lie here


def _files_of_model(folder: Path) -> list[str]:
    """The marker before the model, as `ensure_language_model` writes them."""
    return [f"lm/{folder.name}{MADE_FROM}", f"lm/{folder.name}"]


# --- on the node -----------------------------------------------------------------------------------------------------


def require_data(data: Data) -> None:
    """Raises UserError where a data set is missing, or is another one."""
    for name, digest in data.digests.items():
        try:
            data_folder(name, data.folder)
        except UserError as error:
            raise UserError(
                f"expected the data set {name} at {data.folder / name}, at the same path as on the machine that asks; "
                f"found none. Copy it there, or name a folder that all machines have: --data"
            ) from error
        if data_digest(name, data.folder) != digest:
            raise UserError(f"the data set at {data.folder / name} has other files than on the machine that asks")


@contextmanager
def _working(place: Place, data: Data, given: Sequence[bytes]) -> Iterator[Place]:
    """A place on this node, for as long as the block runs, with what is given to it."""
    require_data(data)
    with tempfile.TemporaryDirectory(prefix="kka-") as folder:
        for packed in given:
            unpack(packed, Path(folder))
        yield dataclasses.replace(place, data=data.folder, work=Path(folder))


def compute_there(cell: Cell, place: Place, data: Data, *given: bytes) -> Row:
    """The cell's row; `given`: its pool, if it needs one."""
    with _working(place, data, given) as here:
        return compute(cell, here)


def make_pool(cell: Cell, place: Place, data: Data, traces: bool, *given: bytes) -> bytes:
    """The cell's pool. `given`: of it what there is, the pool that it parts from, its language model."""
    with _working(place, data, given) as here:
        task = task_of(cell, here)
        out = ensure_pool(cell, task, here.data, here.work)
        if traces:
            ensure_traces(cell, task, here)
        return pack(here.work, [f"pools/{out.name}"])


def make_language_model(cell: Cell, place: Place, data: Data) -> bytes:
    """The small language model of the cell's task, with its marker."""
    with _working(place, data, ()) as here:
        ensure_language_model(cell, here.data, here.work)
        return pack(here.work, _files_of_model(language_folder(cell, dataset(cell.dataset), here.work)))
