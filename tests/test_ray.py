"""Experiments on a Ray cluster: the rows of one machine, whatever node dies; clusters that are not to be had."""

import dataclasses
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from fakes import Painter, outcome, small_task
from kka.algorithm.folder import RunFolder
from kka.algorithm.pictures import draw_pictures
from kka.common import cluster as module
from kka.common import pieces
from kka.common.cache import ImageCache
from kka.common.cluster import STARTED_HERE, Cluster
from kka.common.copies import Copies
from kka.common.files import image_files
from kka.common.pieces import LostError
from kka.common.workers import EndedError
from kka.deploy.score import score_files
from kka.deploy.shards import open_there, require_paths, score_shards, sent
from kka.deploy.stored import open_detector
from kka.errors import UserError
from kka.experiments.engine import runner
from kka.experiments.engine.cells import Cell, Results
from kka.experiments.engine.on_cluster import Data, require_data, run_cells_on
from kka.experiments.engine.place import Place
from kka.protocols import Images
from kka.run.execute import run
from kka.settings.backbone import BackboneSettings
from kka.settings.needs import Needs
from test_painted_run import SMALL, plate, save

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")  # Ray's own

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STORE = 80 * 2**20
"""Bytes of a node's object store: the least that Ray takes."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of one node with one core; tests add others."""
    searched = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    os.environ |= {**STARTED_HERE, "PYTHONPATH": searched}
    from ray.cluster_utils import Cluster as Nodes

    made = Nodes(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "num_gpus": 0, "object_store_memory": STORE, "include_dashboard": False},
    )
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A tiny data set under the name of a known one, so that every process knows it."""
    root = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        importlib.import_module("ray_scaling").tiny(root / "data", side=16, train=12, test=4)
    backbone = BackboneSettings(name="mobilenetv2_035", weights="random")
    return Place(data=root / "data", work=root / "work", backbone=backbone)


def cells(*arms: str, seeds: int) -> list[Cell]:
    return [
        Cell(dataset="ucm_caption", normal="19+20", detector="sad", arm=arm, seed=seed, scale="smoke")
        for seed in range(seeds) for arm in arms
    ]  # fmt: skip


def figures(results: Results) -> dict[str, dict[str, Any]]:
    """Of each cell, all but the times and the machine."""
    untold = ("fit_seconds", "score_seconds", "machine")
    return {row.id: {k: v for k, v in row.as_dict().items() if k not in untold} for row in results.rows()}


def lines(results: Results) -> int:
    return len(results.path.read_text().splitlines())


def test_no_cell_is_lost_or_twice(nodes: Any, place: Place, tmp_path: Path) -> None:
    """One of two nodes is killed after the first row. What is stored is not done again, nor what came meanwhile."""
    wanted = cells("none", "noise", "real", seeds=4)
    alone, together = Results(tmp_path / "alone.jsonl"), Results(tmp_path / "together.jsonl")
    runner.run_cells(wanted, place, alone)
    first = alone.rows()[0]
    together.append(first)
    second = nodes.add_node(num_cpus=1, object_store_memory=STORE)
    told: list[Any] = []

    def tell(cell: Cell, row: Any, *numbers: Any) -> None:
        told.append((cell, row))
        if len(told) == 2:
            nodes.remove_node(second, allow_graceful=False)
            together.append(alone.rows()[-1])  # by a process on this machine

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a machine is lost, where that is seen before the work is done
        with Cluster(nodes.address) as cluster:
            assert cluster.slots() == 2
            run_cells_on(cluster, wanted, place, together, tell)
    assert lines(together) == len(wanted) == 12 and len(told) == 12
    assert figures(together) == figures(alone)
    before = together.path.read_bytes()
    with Cluster(nodes.address) as cluster:
        run_cells_on(cluster, wanted, place, together)
    assert together.path.read_bytes() == before


def fails(text: str) -> None:
    raise UserError(text)


def talks() -> int:
    warnings.warn("a word to the reader", stacklevel=1)
    return 2


def test_pieces_of_work(nodes: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Errors and warnings reach the reader as they are; what depends on a failed piece fails with its words; a piece
    that kills its process is not tried for ever; a node without the data is named with the path."""
    monkeypatch.setattr(module, "RETRIES", 0)
    with Cluster(nodes.address) as cluster:
        shared = cluster.share(3)
        with pytest.warns(UserWarning, match="a word to the reader"):
            assert cluster.result(cluster.submit(pow, shared, cluster.submit(talks))) == 9
            cluster.result(cluster.submit(talks))
        failed = cluster.submit(fails, "a finer word")
        with pytest.raises(UserError, match=r"^a finer word$"):
            cluster.call(pow, 2, failed)
        with pytest.raises(ZeroDivisionError) as caught:
            cluster.call(divmod, 1, 0)
        assert "in done" in caught.value.__notes__[0]
        with pytest.raises(EndedError):
            cluster.call(os._exit, 7)
        data = Data(folder=tmp_path, digests={"ucm_caption": "0"})
        with pytest.raises(UserError, match=rf"the machine \S+ \(.*expected the data set .* at {tmp_path}/ucm_caption"):
            cluster.everywhere(require_data, data)
    with pytest.raises(UserError, match=r"--needs: expected a machine .* with 900 cores and 0 GPUs; got the machine"):
        Cluster(nodes.address, Needs(cpus=900)).__enter__()
    monkeypatch.setattr(pieces, "__version__", "9")
    with pytest.raises(UserError, match=r"the machine .*: expected kka 9 on Python \S+, as here; got kka 0"):
        Cluster(nodes.address).__enter__()


def test_clusters_that_are_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that hung for minutes before it said so would be taken for one that works."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(UserError, match=rf"nothing answers at {address}.*ray start --head"):
            Cluster(address)
    with pytest.raises(UserError, match="expected auto, local, host:port or ray://host:port; got 'head'"):
        Cluster("head")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(UserError, match="nothing answers"):
        Cluster("auto")


@pytest.mark.slow
def test_pools_on_a_cluster(nodes: Any, place: Place, tmp_path: Path) -> None:
    """A language model, pools of both modes and their cells, as on one machine to the last figure, where a node dies
    while a pool is made; and the pools that came back serve a run on one machine."""
    wanted = cells("none", "rep-1", "add-1", seeds=1)
    alone, together = Results(tmp_path / "alone.jsonl"), Results(tmp_path / "together.jsonl")
    here, there = (Place(data=place.data, work=tmp_path / name, backbone=place.backbone) for name in ("one", "many"))
    runner.run_cells(wanted, here, alone)
    second = nodes.add_node(num_cpus=1, object_store_memory=STORE)
    made: list[str] = []

    def say(text: str) -> None:
        made.append(text)
        if text.startswith("language model"):  # pools are next
            time.sleep(3)
            nodes.remove_node(second, allow_graceful=False)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Cluster(nodes.address) as cluster:
            run_cells_on(cluster, wanted, there, together, say=say)
    assert lines(together) == len(wanted)
    assert figures(together) == figures(alone)
    assert made[0] == "3 cells, 2 pools and 1 language models, 2 at a time"
    assert sum(text.startswith("pool") for text in made) == 2
    names = [sorted(path.relative_to(at).as_posix() for path in (at / "pools").rglob("captions.jsonl"))
             for at in (here.work, there.work)]  # fmt: skip
    assert names[0] == names[1] and len(names[0]) > 4
    for name in names[0]:
        assert (here.work / name).read_bytes() == (there.work / name).read_bytes()
    more = cells("add-2", seeds=1)
    runner.run_cells(more, there, together)
    runner.run_cells(more, here, alone)
    assert figures(together) == figures(alone)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(place: Place, tmp_path: Path, stop: signal.Signals) -> None:
    """Ray's processes would go on for ever; what was done stays, and a run on one machine does the rest."""
    results = tmp_path / "results.jsonl"
    command = [
        sys.executable, "-m", "kka.cli", "experiment", "table3", "--dataset", "ucm_caption", "--tasks", "19+20",
        "--scale", "smoke", "--data", str(place.data), "--work", str(tmp_path / "work"), "--results", str(results),
        "--seeds", "3", "--no-draw", "--ray", "local",
    ]  # fmt: skip
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    started: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + 200
    while not (results.is_file() and results.stat().st_size) and child.poll() is None and time.monotonic() < deadline:
        started |= {each.pid: each for each in psutil.Process(child.pid).children(recursive=True)}
        time.sleep(0.2)
    assert results.is_file(), child.communicate()
    child.send_signal(stop)
    told = child.communicate(timeout=60)[0]
    assert child.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[stop], told
    assert len(started) > 3
    _, alive = psutil.wait_procs(list(started.values()), timeout=100)  # after a kill Ray's agents look for their node
    assert alive == []
    assert lines(Results(results)) > 0 and "Traceback" not in told


class SlowPainter(Painter):
    """Some of its pictures need a while."""

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images:
        time.sleep(0.3)
        return super().draw(captions, seeds=seeds)


@pytest.mark.slow
def test_pictures_by_copies(nodes: Any, tmp_path: Path) -> None:
    """A picture that depended on which copy draws it, or that was lost with its node, would make another run; what was
    drawn once is not drawn again."""
    walls = ("grey", "dark", "pale", "bright")
    captions = [f"a small {color} flower with three round petals before a {wall} wall"
                for color in ("blue", "green", "white", "pink") for wall in walls]  # fmt: skip
    seeds = range(16)
    alone = draw_pictures(SlowPainter(), captions, seeds=seeds)
    second = nodes.add_node(num_cpus=1, object_store_memory=STORE)
    told: list[int] = []

    def tell(done: int, total: int) -> None:
        told.append(done)
        if len(told) == 3:
            nodes.remove_node(second, allow_graceful=False)

    cache = ImageCache(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Cluster(nodes.address) as cluster:
            copies = cluster.copies(SlowPainter)
            drawn = draw_pictures(SlowPainter(), captions, seeds=seeds, cache=cache, progress=tell, copies=copies)
            again = draw_pictures(SlowPainter(), captions, seeds=seeds, cache=cache, copies=copies)
            with pytest.raises(UserError, match="no such model"):
                list(cluster.copies(fails, "no such model").each(pow, [(2,)]))
    assert np.array_equal(drawn.images, alone.images) and np.array_equal(again.images, alone.images)
    assert (drawn.drawn, again.drawn, again.from_cache) == (16, 0, 16) and told == list(range(1, 17))


def test_of_nothing_no_copy_is_made() -> None:
    """Where the cache holds every picture, or every shard is there, no model is loaded on the machines."""
    nowhere: Any = Cluster.__new__(Cluster)
    nowhere._ray = None  # asked for anything, it fails
    assert not list(Copies(nowhere, fails, ("no such model",)).each(pow, [], most=0))


class Handle(SimpleNamespace):
    """Of an actor."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Lossy:
    """A cluster of one core, whose copies compute at once; the first answer to a piece is lost on its way."""

    needs, lost = Needs(cpus=1), False

    def __init__(self) -> None:
        self.alive: list[Any] = []
        self._ray = self

    def slots(self) -> int:
        return 1

    def _here(self, threads: int) -> None:
        return None

    def remote(self, kind: type) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self.start))

    def start(self, *_: Any) -> Any:
        assert not self.alive, "there is no room for it"
        copy = Handle()
        copy.begun = SimpleNamespace(remote=lambda: ("begun", None, object()))
        copy.do = SimpleNamespace(remote=lambda work, *item: ("done", work(*item), object()))
        self.alive.append(copy)
        return copy

    def kill(self, copy: Any) -> None:
        self.alive.remove(copy)

    def _wait(self, pieces: list[Any]) -> list[Any]:
        return pieces[:1]

    def result(self, piece: Any) -> Any:
        if piece[0] == "done" and not self.lost:
            self.lost = True
            raise LostError("the machine that held the answer is gone")
        return piece[1]


def test_a_copy_whose_answer_is_lost_gives_up_its_room() -> None:
    """It lives on: the one in its place would wait for ever."""
    cluster = Lossy()
    found = dict(Copies(cluster, fails, ()).each(pow, [(2, n) for n in range(5)]))
    assert found == {n: 2**n for n in range(5)} and cluster.lost and not cluster.alive


@pytest.mark.slow
def test_scores_by_copies(nodes: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are those of one machine, with a row for what cannot be read; what is there is not scored again, and
    another detector's folder is not gone on with."""
    for chunk in ("shards.SHARD", "score.CHUNK"):  # a score has the last bits of its batch
        monkeypatch.setattr(f"kka.deploy.{chunk}", 4)
    kept = open_detector(RunFolder(finished).kept("kka-2"))
    photos = small_task().normals[:10]
    save(tmp_path / "photos", list(photos))
    (tmp_path / "photos/03.png").write_bytes(b"no picture")
    files = image_files([tmp_path / "photos"])
    alone = {str(row.file): row.score for row in score_files(kept, files).rows}
    out = tmp_path / "scores"
    with Cluster(nodes.address) as cluster:
        copies = cluster.copies(open_there, *sent(kept, None, None))
        first = score_shards(kept, files, out, copies)
        (out / "part-00001.parquet").unlink()
        again = score_shards(kept, files, out, copies)
        with pytest.raises(UserError, match="another files, names"):
            score_shards(kept, files[:5], out, copies)
        with pytest.raises(UserError, match=rf"the machine .*expected the images at {tmp_path}/nowhere"):
            cluster.everywhere(require_paths, [f"{tmp_path}/nowhere"])
    assert (first.files, first.set_aside, first.made, again.made) == (10, 1, 3, 1)
    rows = pq.read_table(out).to_pylist()
    assert [row["file"] for row in rows] == [str(file) for file in files]
    assert {row["file"]: row["score"] for row in rows if row["score"] is not None} == alone
    assert "03.png" not in alone and rows[3]["score"] is None and rows[3]["reason"]


def results(folder: Path) -> dict[str, bytes]:
    """All that a run made but for its report, which tells the time."""
    return {name: content for name, content in outcome(folder).items() if name != "report.html"}


@pytest.mark.slow
def test_a_run_on_a_cluster(nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions, pictures, judgements, tuning, scores and detectors are those of one machine to the last bit, though a
    node dies; a run that a cluster began goes on without it; the ledger says what the machines did."""
    data = save(tmp_path / "photos", [plate(40, 40, seed) for seed in range(14)])
    config = dataclasses.replace(SMALL, data=data, size=32)
    monkeypatch.setenv("KKA_CACHE", str(tmp_path / "cache"))
    run(config, tmp_path / "alone")
    second = nodes.add_node(num_cpus=1, object_store_memory=STORE)
    monkeypatch.setenv("KKA_CACHE", str(tmp_path / "another"))  # where nothing is drawn
    seen: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "dpo" and "dpo" not in seen:
            nodes.remove_node(second, allow_graceful=False)
        seen.append(stage)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Cluster(nodes.address) as cluster:
            run(config, tmp_path / "together", cluster=cluster, progress=progress)
    assert results(tmp_path / "together") == results(tmp_path / "alone")
    stages = json.loads((tmp_path / "together/ledger.json").read_text())["stages"]
    elsewhere = {name for name, entry in stages.items() if entry.get("machine_seconds", 0) > 0}
    assert {"rounds/0/captions", "rounds/0/images", "rounds/1/evaluator", "arms/kka-1/seed-0"} <= elsewhere
    shutil.rmtree(tmp_path / "together/arms/kka-1")
    shutil.rmtree(tmp_path / "together/kept")
    (tmp_path / "together/summary.json").unlink()
    run(config, tmp_path / "together", resume=True)
    assert results(tmp_path / "together") == results(tmp_path / "alone")
