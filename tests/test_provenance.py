"""What stored figures were made with: a changed default must not let an old figure stand for a new one."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from kka.cli import experiment as cli_experiment
from kka.cli.experiment import Compute, run_experiment
from kka.errors import UserError
from kka.experiments.engine import cell_task, pools, runner
from kka.experiments.engine.cells import Cell, Results, Row
from kka.experiments.engine.place import Place
from kka.experiments.engine.provenance import changed_settings, check_settings, settings_of
from kka.experiments.engine.tasks import DATASETS
from kka.settings.backbone import BackboneSettings


def row(of: Cell, auroc: float = 0.5) -> Row:
    return Row(**dataclasses.asdict(of), auroc=auroc, fit_seconds=1.0, score_seconds=1.0)


def cell(**given: Any) -> Cell:
    return Cell(**{"dataset": "ucm_caption", "normal": "3+16", "detector": "sad", "arm": "none", "seed": 0} | given)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(data=tmp_path / "data", work=tmp_path / "work", backbone=BackboneSettings(padding="same"))


@pytest.fixture
def other_default() -> Iterator[None]:
    """The data set's SAD trains for 7 epochs, where it trained for 40."""
    with mock.patch.dict(DATASETS, {"ucm_caption": dataclasses.replace(DATASETS["ucm_caption"], cpu_epochs=7)}):
        yield


def test_what_settings_there_are(place: Place) -> None:
    """The detector's own; of the pool only where there is one; of the backbone only where there is one."""
    alone, noise, pool = (settings_of(cell(arm=arm), place) for arm in ("none", "noise", "rep-2"))
    assert alone["detector.epochs"] == 40 and alone["detector.milestones"] == [30]
    assert not [name for name in alone if not name.startswith("detector.")]  # and no data here
    assert noise["anomalies"] == 200
    assert (pool["loop.mode"], pool["loop.initial"], pool["loop.sad.epochs"]) == ("rep", 200, 40)
    assert settings_of(cell(arm="rep-2", variant="quantile=1"), place)["loop.quantile"] == 1
    models = settings_of(cell(arm="rep-2", variant="drawing.steps=10,language.temperature=0.8"), place)
    usual = settings_of(cell(arm="rep-2"), place)
    work = "language.batch=true,language.parallel=9,language.price_in=1,language.price_out=2"
    assert settings_of(cell(arm="rep-2", variant=work), place) == usual  # the same anomalies, asked for otherwise
    assert not any("captions_an_answer" in name for name in usual)
    assert (models["loop.drawing.steps"], models["loop.language.temperature"]) == (10, 0.8)
    assert settings_of(cell(detector="simplenet", backbone="x"), place)["backbone.padding"] == "same"


def test_other_weights_are_another_setting(place: Place, tmp_path: Path) -> None:
    """By what the file holds, whatever it is called."""
    found = []
    for name, content in (("a", "1"), ("b", "2"), ("c", "1")):
        (tmp_path / name).write_text(content)
        given = dataclasses.replace(place, backbone=BackboneSettings(weights=str(tmp_path / name)))
        found.append(settings_of(cell(detector="simplenet", backbone="x"), given)["backbone.weights"])
    assert found[0] == found[2] != found[1]
    assert settings_of(cell(detector="simplenet", backbone="x"), place)["backbone.weights"] == "hub"


def test_seeds_tasks_and_places_are_no_settings(place: Place, tmp_path: Path) -> None:
    elsewhere = dataclasses.replace(place, data=tmp_path / "b", work=tmp_path / "c")
    usual = settings_of(cell(arm="rep-2"), place)
    assert settings_of(cell(arm="rep-2", seed=3, normal="8+17"), elsewhere) == usual


@pytest.mark.usefixtures("other_default")
def test_changed_settings_are_found_and_named(place: Place, tmp_path: Path) -> None:
    """And only those: an unknown setting, a row without any, a cell that is not stored are no change."""
    results = Results(tmp_path / "r.jsonl")
    now = {arm: settings_of(cell(arm=arm), place) for arm in ("none", "noise", "real")}
    results.append(row(cell()), now["none"] | {"detector.epochs": 40})
    results.append(row(cell(arm="noise")), now["noise"] | {"gone": 1})
    results.append(row(cell(arm="real")))
    cells = [cell(arm=arm) for arm in ("none", "noise", "real", "rep-0")]
    assert changed_settings(cells, place, results) == {
        cell().id: (results.rows()[0].made_with, "  detector.epochs: made with 40, now 7")
    }
    with pytest.raises(UserError, match=r"(?s)1 of its figures.*sad/none.*epochs: made with 40, now 7.*--redo"):
        check_settings(cells, place, results)
    check_settings(cells[1:], place, results)


def test_other_data_are_another_setting(place: Place, tmp_path: Path) -> None:
    """A person's own copy of a data set must not be mixed with figures that another copy gave."""
    results = Results(tmp_path / "r.jsonl")
    for name in ("a", "b"):
        (tmp_path / name / "ucm_caption").mkdir(parents=True)
        (tmp_path / name / "ucm_caption/train.parquet").write_text(name)
    here, there = (dataclasses.replace(place, data=tmp_path / name) for name in ("a", "b"))
    results.append(row(cell()), settings_of(cell(), here))
    check_settings([cell()], here, results)
    with pytest.raises(UserError, match="data: made with"):
        check_settings([cell()], there, results)


def test_settings_are_stored_once(place: Place, tmp_path: Path) -> None:
    results = Results(tmp_path / "r.jsonl")
    for seed in range(3):
        results.append(row(cell(seed=seed)), settings_of(cell(seed=seed), place))
    lines = (tmp_path / "r.settings.jsonl").read_text().splitlines()
    (only,) = map(json.loads, lines)
    assert {row.made_with for row in results.rows()} == {only["id"]}


def test_old_figures_stop_a_run_or_are_made_anew(place: Place, tmp_path: Path, capsys: Any) -> None:
    """Those of now stay as they are; the later row counts."""
    results = Results(tmp_path / "r.jsonl")
    cells = [cell(seed=seed) for seed in range(3)]
    settings = settings_of(cells[0], place)
    results.append(row(cells[0]), settings | {"detector.epochs": 9})
    results.append(row(cells[1]), settings)
    computed: list[str] = []

    def compute(cell: Cell, place: Place) -> Row:
        computed.append(cell.id)
        return row(cell, 0.9)

    with mock.patch.object(runner, "compute", compute):
        with pytest.raises(UserError, match="--redo"):
            runner.run_cells(cells, place, results)
        assert computed == []
        given: dict[str, Any] = {"data": place.data, "work": place.work, "results": results.path, "tasks": ("3+16",)}
        command = Compute(name="table3", dataset=("ucm_caption",), dry_run=True, seeds=2, **given)
        run_experiment(command)
        shown = capsys.readouterr().out
        assert "22 cells, 2 of them stored" in shown and "1 were made with other settings" in shown
        assert "sad/none/0" not in shown.partition("epochs")[2]
        run_experiment(dataclasses.replace(command, redo=True))
        assert "sad/none/0" in capsys.readouterr().out.partition("epochs")[2]
        runner.run_cells(cells, place, results, redo=True)
    assert computed == [cells[0].id, cells[2].id]
    assert {row.seed: row.auroc for row in results.rows()} == {0: 0.9, 1: 0.5, 2: 0.9}
    check_settings(cells, place, results)


def test_a_cell_that_another_process_made_anew_is_done(place: Place, tmp_path: Path) -> None:
    """Whenever its row comes: else two processes with --redo would go on for ever."""
    results, settings = Results(tmp_path / "r.jsonl"), settings_of(cell(), place)
    results.append(row(cell()), settings | {"detector.epochs": 9})
    found = runner.changed_settings

    def meanwhile(*given: Any) -> Any:
        changed = found(*given)
        results.append(row(cell(), 0.8), settings)  # by the other
        return changed

    with mock.patch.object(runner, "changed_settings", meanwhile), mock.patch.object(runner, "compute") as computed:
        runner.run_cells([cell()], place, results, redo=True)
    assert not computed.called and [row.auroc for row in results.rows()] == [0.8]


def test_several_processes_are_not_started_for_old_figures(place: Place, tmp_path: Path) -> None:
    results = Results(tmp_path / "r.jsonl")
    results.append(row(cell()), settings_of(cell(), place) | {"detector.epochs": 9})
    command = Compute(
        name="table3", dataset=("ucm_caption",), tasks=("3+16",), jobs=2, data=place.data, work=place.work,
        results=results.path,
    )  # fmt: skip
    with (
        mock.patch.object(cell_task, "check_tasks"),
        mock.patch.object(cli_experiment.subprocess, "Popen") as started,
        pytest.raises(UserError, match="--redo"),
    ):
        run_experiment(command)
    started.assert_not_called()


def test_a_pool_s_own_check_stays(place: Place) -> None:
    """The settings of a cell's pool are those that its run directory is made with."""
    config = pools.pool_config(cell(arm="add-3"), place.data, place.work)
    stored = settings_of(cell(arm="add-3"), place)
    assert stored["loop.mode"] == config.mode == "add" and stored["loop.per_round"] == config.per_round
