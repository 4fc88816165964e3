"""`kka experiment`: list, show, plot, or an experiment by name. What a command needs is imported when it runs."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from annotated_types import Ge, Le

from kka.cli.ending import Terminated
from kka.cli.logged import LOG, Hushed, is_quiet
from kka.errors import UserError, unknown
from kka.experiments import EXPERIMENTS
from kka.settings import Few, Text, settings
from kka.settings.backbone import RANDOM, BackboneSettings
from kka.settings.needs import Needs

if TYPE_CHECKING:
    from kka.experiments.engine.cells import Cell, Results, Row
    from kka.experiments.engine.experiment import Experiment
    from kka.experiments.engine.place import Place
    from kka.experiments.engine.plan import Plan
    from kka.experiments.engine.runner import OnCell


@settings()
class Asked:
    """Which tasks, seeds and settings are meant, and where things lie."""

    dataset: tuple[Text, ...] = ("oxford102", "ucm_caption", "cifar100")
    tasks: tuple[Text, ...] = ()
    """Normal classes; several that make one normal are joined by +; all: every superclass of cifar100, every class of \
oxford102. Default: the reported tasks of each data set."""
    seeds: Few = 3
    """How many, from 0."""
    split_seeds: Few = 1
    """How many choices of the withheld half of the anomaly classes, from 0, each with every seed."""
    scale: Literal["full", "cpu", "smoke"] = "cpu"
    """full: the published settings of evaluator and detectors (the models are --loop's). cpu: the detectors' \
cpu presets. smoke: every path, in minutes; no figures."""
    protocol: Literal["withheld", "paper"] = "withheld"
    """withheld: half of the anomaly classes are unknown to language model and bank. paper: all may be known."""
    data: Path = Path("data")
    """The folder that holds the data sets' folders."""
    work: Path = Path("runs/experiments")
    """Language models and pools."""
    results: Path = Path("benchmarks/results/experiments.jsonl")
    figures: Path = Path("docs/figures")
    loop: tuple[Text, ...] = ()
    """Models and settings of the loop behind every pool, as `kka run` has them: lm=hf:Qwen/Qwen3-4B-Instruct-2507 \
images=diffusers:stabilityai/sd-turbo steer=examples, language.* and drawing.* among them. Default: a small language \
model trained on the known classes' captions, and their pictures as image bank."""
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    detector: tuple[Text, ...] = ()
    """Of table2: other detectors beside ours, each anomalib:<model>, or your own class as package.module:Class."""


@dataclass(frozen=True, kw_only=True)
class ListExperiments:
    """What there is."""


@settings()
class ShowTables(Asked):
    """The tables, from what is stored."""


@settings()
class PlotFigures(Asked, Hushed):
    """The figures, from what is stored; the few detectors that some need are trained."""


@settings()
class Compute(Asked, Hushed):
    """Results are stored as they come, and a killed run goes on."""

    name: tyro.conf.Suppress[str]
    only: tuple[Text, ...] = ()
    """Detectors; default: all of the experiment's."""
    jobs: Annotated[int, Ge(1), Le(256)] = 1
    """Processes at once; they share the machine's cores."""
    ray: Text | None = None
    """A Ray cluster that does the work: auto (the one that this machine is part of), local (this machine alone), \
host:port or ray://host:port. The data sets lie at the same path on all machines; results and pools come back here."""
    needs: Needs = field(default_factory=Needs)
    draw: bool = True
    """Print the tables and draw the figures at the end."""
    redo: bool = False
    """Make stored figures anew that were made with other settings than now asked for; otherwise they stop the run. \
(A pool of other settings is named, to be removed by hand.)"""
    dry_run: bool = False
    """Say what would be run and how long it would take."""


def _actions() -> Any:
    """The subcommands: list, show, plot, and each experiment by its name."""
    actions: Any = Annotated[ListExperiments, tyro.conf.subcommand("list")]
    actions |= Annotated[ShowTables, tyro.conf.subcommand("show")]
    actions |= Annotated[PlotFigures, tyro.conf.subcommand("plot")]
    for name, title in EXPERIMENTS.items():
        actions |= Annotated[Compute, tyro.conf.subcommand(name, default=Compute(name=name), description=title)]
    return actions


Action = ListExperiments | ShowTables | PlotFigures | Compute


@dataclass(frozen=True, kw_only=True)
class Experiments:
    """The paper's experiments, each one command: `kka experiment list` names them."""

    action: tyro.conf.OmitSubcommandPrefixes[_actions()]


def run_experiment(action: Action) -> int:
    """What `kka experiment` does; returns the exit status."""
    if isinstance(action, ListExperiments):
        for name, title in EXPERIMENTS.items():
            print(f"{name:8}  {title}")
        return 0
    from kka.experiments.engine.cells import Results
    from kka.experiments.engine.tasks import dataset

    for data in action.dataset:
        dataset(data)
    results = Results(action.results)
    if isinstance(action, ShowTables):
        if not action.results.is_file():
            print(f"Nothing is stored: there is no file {action.results}.")
        print("\n".join(_shown(action, results.rows(), list(EXPERIMENTS))))
        return 0
    if isinstance(action, PlotFigures):
        return _plot(action, list(EXPERIMENTS), results)
    return _compute(action, results)


def _compute(command: Compute, results: "Results") -> int:
    from kka.experiments import experiment

    chosen = experiment(command.name)
    if not chosen.datasets(command.dataset):
        raise UserError(f"--dataset: {command.name} is of {chosen.dataset} alone; got {', '.join(command.dataset)}")
    cells = _cells(command, chosen)
    done = results.done() if cells else set()
    left = [cell for cell in cells if cell.id not in done]
    if command.dry_run:  # it may come before the data
        from kka.experiments.engine.cell_task import has_data

        left = [cell for cell in left if has_data(cell.dataset, command.data)]
    if left:
        from kka.experiments.engine.cell_task import check_tasks

        check_tasks(left, command.data)
    if command.dry_run:
        return _dry_run(command, cells, results)
    if command.ray is not None and command.jobs > 1:
        raise UserError("--jobs: processes of this machine; with --ray those of the cluster work. Leave it out.")
    _check_places(command)
    if left:
        from kka.experiments.engine.checks import check_parts

        check_parts(left, _place(command))
    if command.ray is not None:
        _on_cluster(command, command.ray, cells, results)
    elif command.jobs > 1 and cells:
        if not command.redo:  # once, not in every process
            from kka.experiments.engine.provenance import check_settings

            check_settings(cells, _place(command), results)
        if status := _in_processes(command):
            return status
    else:
        _run(cells, _place(command), results, redo=command.redo)
    if not command.draw:
        return 0
    print("\n".join(_shown(command, results.rows(), [command.name])))
    return _plot(command, [command.name], results)


def plan_of(command: Asked) -> "Plan":
    from kka.experiments.engine.plan import Plan
    from kka.experiments.engine.tasks import chosen_tasks

    untrained = "+random" if command.backbone.weights == RANDOM else ""
    return Plan(
        datasets=command.dataset, chosen=chosen_tasks(command.dataset, command.tasks),
        seeds=range(command.seeds), scale=command.scale,
        protocol=command.protocol, backbone=command.backbone.name.partition(".")[0] + untrained,
        loop=tuple(sorted(command.loop)), own=command.detector,
    )  # fmt: skip


def _plot(command: Asked, names: Sequence[str], results: "Results") -> int:
    """The figures among the experiments of these names."""
    from kka.experiments import experiment
    from kka.experiments.engine.pools import BusyError
    from kka.experiments.engine.summary import rows_of

    rows, plan = results.rows(), plan_of(command)
    missing: list[str] = []
    for name, chosen in zip(names, map(experiment, names), strict=True):
        if chosen.draw is not None and chosen.datasets(plan.datasets):
            mine = rows_of(rows, chosen.cells(plan))
            try:
                paths = chosen.draw(plan, _place(command), mine, command.figures)
            except (BusyError, UserError) as error:  # the others can be drawn all the same
                busy = isinstance(error, BusyError)
                why = f"another process is making the pool {error}; draw it after that" if busy else error
                missing.append(f"{name}: {why}")
                continue
            print("\n".join(f"Figure: {path}" for path in paths) or f"{name}: no task has all its cells yet")
    if missing:
        raise UserError("not drawn: " + "\n".join(missing))
    return 0


def _check_places(command: Compute) -> None:
    """Raises UserError where results, pools or figures could not be written at the end of the work."""
    from kka.common.writable import require_writable

    require_writable(command.results, "--results")
    require_writable(command.work, "--work", folder=True)
    if command.draw:
        require_writable(command.figures, "--figures", folder=True)


def _cells(command: Compute, chosen: "Experiment") -> "list[Cell]":
    plan = plan_of(command)
    plans = [dataclasses.replace(plan, split_seed=number) for number in range(command.split_seeds)]
    cells = [cell for each in plans for cell in chosen.cells(each)]
    if command.tasks and len(command.dataset) > 1 and chosen.dataset is None:
        raise UserError("--tasks: expected one --dataset with them; got several")
    known = {cell.detector for cell in cells}
    if command.only and not known:
        raise UserError(f"--only: {command.name} has no detectors to choose among; leave it out")
    for name in command.only:
        if name not in known:
            raise unknown("detector of the experiment", name, known)
    if command.detector:
        _check_own(command)
    if command.loop:
        from kka.experiments.engine.pools import check_loop

        check_loop(command.loop)
    if command.loop and command.name == "ablation":
        raise UserError("--loop: the ablation has settings of its own; leave it out")
    return [cell for cell in dict.fromkeys(cells) if not command.only or cell.detector in command.only]


def _check_own(command: Compute) -> None:
    """Raises UserError for detectors that are no class's path, or are not to be had; and where nothing takes them."""
    from kka.detectors import build_detector, detector_class, is_of_family, is_own_detector

    if command.name != "table2":
        raise UserError(f"--detector: your own detectors stand beside ours in table2; {command.name} has none of them. "
                        "Leave it out.")  # fmt: skip
    for path in command.detector:
        if is_of_family(path):
            build_detector(path)
        elif is_own_detector(path):
            detector_class(path)
        else:
            raise UserError(f"--detector: expected your own class as package.module:Class, or anomalib:<model>; got "
                            f"{path!r}. (--only chooses among ours.)")  # fmt: skip


def _place(command: Asked) -> "Place":
    from kka.experiments.engine.place import Place

    return Place(data=command.data, work=command.work, backbone=command.backbone)


def _dry_run(command: Compute, cells: "list[Cell]", results: "Results") -> int:
    from kka.experiments.engine.pools import missing_language_models, missing_pools
    from kka.experiments.engine.provenance import changed_settings
    from kka.experiments.engine.runner import estimate

    if not cells:
        print("No cells: its few detectors are trained when it is drawn (about five minutes at scale cpu on one core).")
        return 0
    rows = results.rows()
    done = {row.id for row in rows}
    changed = changed_settings(cells, _place(command), results)
    left = [cell for cell in cells if cell.id not in done or (command.redo and cell.id in changed)]
    pools = missing_pools(left, command.work)
    print(f"{len(cells)} cells, {len(done & {cell.id for cell in cells})} of them stored in {results.path}.")
    if changed:
        print(f"{len(changed)} were made with other settings (--redo makes them anew), such as {next(iter(changed))}:")
        print(next(iter(changed.values()))[1])
    models = missing_language_models(pools, command.work)
    print(f"{len(pools)} pools to be made for the rest, and {models} small language models.")
    cost = estimate(left, rows, pools, models)
    if cost is None:
        print("No estimate: nothing like it (scale, detectors, models) has been measured.")
    else:
        how = "like those measured" if command.scale == "cpu" else "like those measured at scale cpu, by epochs alone"
        print(f"Estimated time for all of it, on one process {how}: {_time(cost)}")
    for cell in left[:10]:
        print(f"  {cell.id}")
    if len(left) > 10:
        print(f"  and {len(left) - 10} more")
    return 0


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds / 60:.0f} min"


def _in_processes(command: Compute) -> int:
    """The same command several times: each takes the cells that no other has claimed."""
    arguments = [*sys.argv[1:], "--jobs", "1", "--no-draw"]
    threads = max(1, (os.cpu_count() or 1) // command.jobs)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    processes = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-m", "kka.cli", *arguments], env=environment)
        for _ in range(command.jobs)
    ]
    try:
        codes = [process.wait() for process in processes]
        return next((code if code > 0 else 1 for code in codes if code), 0)  # below 0: killed by a signal
    except KeyboardInterrupt as stop:
        for process in processes:
            if isinstance(stop, Terminated):  # a Ctrl-C reaches them by itself
                process.terminate()
        for process in processes:
            process.wait()
        raise


def _on_cluster(command: Compute, address: str, cells: "list[Cell]", results: "Results") -> None:
    from kka.common.cluster import Cluster
    from kka.experiments.engine.on_cluster import run_cells_on

    place = _place(command)
    with Cluster(address, command.needs) as cluster:
        run_cells_on(cluster, cells, place, results, _teller(), redo=command.redo, say=_say)


def _say(text: str) -> None:
    from kka.common.terminal import terminal

    LOG.at(text)
    if not is_quiet():
        terminal(stderr=True).print(text)


def _run(cells: "list[Cell]", place: "Place", results: "Results", *, redo: bool) -> None:
    from kka.experiments.engine.runner import run_cells

    run_cells(cells, place, results, _teller(), redo=redo)


def _teller() -> "OnCell":
    from kka.common.terminal import terminal

    console = terminal(stderr=True)

    def told(cell: "Cell", row: "Row | None", done: int, total: int, left: float | None) -> None:
        LOG.at(f"[{done}/{total}] {cell.id}")
        if is_quiet():
            return
        if row is None:
            estimate = "" if left is None else f", about {_time(left)} left"
            console.print(f"[{done}/{total}{estimate}] {cell.id} …")
        else:
            figures = f"AUROC {100 * row.auroc:.1f}, {row.fit_seconds:.0f} s"
            console.print(f"[{done}/{total}] {cell.id}: {figures}")

    return told


def _shown(command: Asked, rows: "list[Row]", names: Sequence[str]) -> list[str]:
    from kka.experiments.engine.show import tables
    from kka.experiments.engine.tasks import DATASETS

    lines = []
    for name, data, table in tables(plan_of(command), rows, names):
        how = f"scale {command.scale}, protocol {command.protocol}"
        lines += ["", f"{EXPERIMENTS[name]}: {DATASETS[data].title} ({how})", "", *table]
    return lines
