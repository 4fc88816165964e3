"""`kka experiment` from the command's fields to what is printed."""

import dataclasses
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from kka.cli import experiment as cli_experiment
from kka.cli.experiment import Compute, ListExperiments, PlotFigures, ShowTables, plan_of, run_experiment
from kka.errors import UserError
from kka.experiments import EXPERIMENTS
from kka.experiments.engine import cell_task
from kka.experiments.engine.cells import Results, Row
from kka.experiments.table3 import ARMS
from kka.settings.backbone import BackboneSettings


def command(tmp_path: Path, name: str, **given: Any) -> Any:
    """The action of `kka experiment <name>`."""
    if name == "list":
        return ListExperiments()
    places = {kind: tmp_path / kind for kind in ("data", "work", "figures")}
    options = {"results": tmp_path / "results.jsonl", "seeds": 1} | places | given
    shown = {"show": ShowTables, "plot": PlotFigures}
    return shown[name](**options) if name in shown else Compute(name=name, **options)


def store(path: Path, **figures: float) -> None:
    """A row of Table III for each arm."""
    for arm, auroc in figures.items():
        cell: dict[str, Any] = {"dataset": "ucm_caption", "normal": "3+16", "detector": "sad", "seed": 0}
        facts = {"auroc": auroc, "seen": auroc, "unseen": auroc, "anomalies": 200, "hard": 20, "generated": 200}
        Results(path).append(Row(**cell, arm=arm.replace("_", "-"), **facts, fit_seconds=8.0, score_seconds=2.0))


def test_list_names_every_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_experiment(command(tmp_path, "list")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)


def test_show_has_the_paper_beside_what_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "results.jsonl", none=0.5, rep_0=0.7, rep_3=0.725, add_3=0.75)
    assert run_experiment(command(tmp_path, "show", dataset=("ucm_caption",))) == 0
    shown = capsys.readouterr().out
    table = shown[shown.index("Table III") :]
    lines = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("|")}
    assert "| 72.5 |" in lines["KKA (3), rep"] and "| +22.5 | +2.5 |" in lines["KKA (3), rep"]
    assert "| 75.0 |" in lines["KKA (3), add"] and "| +25.0 | +5.0 |" in lines["KKA (3), add"]
    assert "±" in lines["no anomalies"].split("|")[3]  # the paper's


def test_dry_run_counts_cells_pools_and_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten seconds a cell as those stored, and two minutes a pool: (11 - 2) x 10 s + 100 s + 70 s + 120 s."""
    store(tmp_path / "results.jsonl", none=0.5, real=0.7)
    given: dict[str, Any] = {"dataset": ("ucm_caption",), "tasks": ("3+16",), "dry_run": True}
    assert run_experiment(command(tmp_path, "table3", **given)) == 0
    shown = capsys.readouterr().out
    assert "11 cells, 2 of them stored" in shown and "2 pools to be made for the rest, and 1 small" in shown
    assert "those measured: 6 min" in shown and "ucm_caption/3+16/sad/rep-0/0" in shown
    assert not (tmp_path / "work").exists()
    run_experiment(command(tmp_path, "table3", **given | {"scale": "full"}))
    assert "by epochs alone: 37 min" in capsys.readouterr().out  # (11 x 10 s + 170 s) x 300/40 + 120 s
    run_experiment(command(tmp_path, "table3", **given | {"scale": "smoke"}))
    assert "No estimate: nothing like it" in capsys.readouterr().out
    run_experiment(command(tmp_path, "table3", **given | {"loop": ("images=diffusers:x",)}))
    assert "No estimate: nothing like it" in capsys.readouterr().out
    run_experiment(command(tmp_path, "figure6", **given))
    assert "when it is drawn" in capsys.readouterr().out


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown experiment: expected one of ablation, .*table2"):
        run_experiment(command(tmp_path, "table9"))
    with pytest.raises(UserError, match="unknown data set"):
        run_experiment(command(tmp_path, "table3", dataset=("oxford",)))
    with pytest.raises(UserError, match="--tasks: expected one --dataset"):
        run_experiment(command(tmp_path, "table3", tasks=("3",), dry_run=True))
    with pytest.raises(UserError, match="expected seeds to be a whole number from 1 to 1,000; got seeds = 0"):
        run_experiment(dataclasses.replace(command(tmp_path, "table3"), seeds=0))
    with pytest.raises(UserError, match="expected jobs to be a whole number from 1 to 256; got jobs = -1"):
        run_experiment(command(tmp_path, "table3", jobs=-1))
    with pytest.raises(UserError, match="unknown detector of the experiment: expected one of sad; got 'ssd'"):
        run_experiment(command(tmp_path, "table3", only=("ssd",)))
    with pytest.raises(UserError, match="figure4 is of oxford102 alone; got ucm_caption"):
        run_experiment(command(tmp_path, "figure4", dataset=("ucm_caption",)))
    with pytest.raises(UserError, match="--loop: the ablation"):
        run_experiment(command(tmp_path, "ablation", loop=("steer=none",)))
    for wrong in ("mode=rep", "seed=9", "unseen=0", "rounds=1", "foo=1"):
        with pytest.raises(UserError, match="unknown setting of an experiment's loop"):
            run_experiment(command(tmp_path, "table3", loop=(wrong,)))
    values = (("lm", "expected setting=value"), ("prompt=a, b", "without commas"), ("initial=0", "expected initial to"))
    for wrong, told in values:
        with pytest.raises(UserError, match=told):
            run_experiment(command(tmp_path, "table3", loop=(wrong,)))
    with pytest.raises(UserError, match="--only: figure3 has no detectors"):
        run_experiment(command(tmp_path, "figure3", only=("sad",)))
    with pytest.raises(UserError, match="kka data prepare oxford102"):
        run_experiment(command(tmp_path, "table3", dataset=("oxford102",)))


def test_all_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_experiment(command(tmp_path, "table3", dataset=("cifar100",), tasks=("all",), dry_run=True))
    assert f"{20 * len(ARMS)} cells" in capsys.readouterr().out
    run_experiment(command(tmp_path, "table3", dataset=("oxford102",), tasks=("all",), dry_run=True))
    assert f"{102 * len(ARMS)} cells" in capsys.readouterr().out
    run_experiment(command(tmp_path, "table4", dataset=("cifar100",), tasks=("all",), dry_run=True))
    assert f"{100 * len(ARMS)} cells" in (shown := capsys.readouterr().out) and "coarse" not in shown
    for names in (("ucm_caption",), ("cifar100", "oxford102")):
        with pytest.raises(UserError, match="--tasks all: expected one --dataset of oxford102, cifar100"):
            run_experiment(command(tmp_path, "table3", dataset=names, tasks=("all",), dry_run=True))


def test_a_task_is_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_experiment(command(tmp_path, "table3", dataset=("oxford102",), tasks=("26", "26"), dry_run=True))
    assert f"{len(ARMS)} cells" in capsys.readouterr().out


def test_show_takes_the_backbone_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is but one, that one; two side by side are not averaged."""
    for backbone, auroc in (("a", 0.5), ("b", 0.75)):
        for arm in ("none", "noise", "rep-2", "add-2"):
            given: dict[str, Any] = {"detector": "simplenet", "seed": 0, "arm": arm, "backbone": backbone}
            given |= {"auroc": auroc, "seen": auroc, "unseen": auroc, "anomalies": 200, "generated": 200}
            Results(tmp_path / "results.jsonl").append(Row(dataset="ucm_caption", normal="3+16", **given))
        asked = command(tmp_path, "show", dataset=("ucm_caption",))
        shown = dataclasses.replace(asked, backbone=BackboneSettings(name=backbone))
        run_experiment(shown)
        out = capsys.readouterr().out
        (line,) = [x for x in out.splitlines() if x.startswith("| SimpleNet | KKA (2), rep")]
        assert f"| {100 * auroc:.1f} |" in line


def test_what_cannot_be_drawn_does_not_stop_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No data here: figures 3, 5 and 6 need it, figure 4 is drawn from what is stored."""
    points = [(f"first-{n}", "initial=800,rounds=0") for n in (50, 100, 200, 400, 800)]
    for arm, variant in points + [(f"rep-{n}", "") for n in range(4)] + [("add-3", "")]:
        given: dict[str, Any] = {"detector": "sad", "arm": arm, "seed": 0, "variant": variant, "auroc": 0.9}
        Results(tmp_path / "results.jsonl").append(Row(dataset="oxford102", normal="26", anomalies=200, **given))
    with pytest.raises(UserError, match=r"(?s)not drawn: figure3: .*kka data prepare.*figure5.*figure6"):
        run_experiment(command(tmp_path, "plot", dataset=("oxford102",)))
    assert "figure4.png" in capsys.readouterr().out and (tmp_path / "figures/figure4.png").is_file()


def test_table_4_is_of_one_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs no --dataset beside --tasks."""
    assert run_experiment(command(tmp_path, "table4", tasks=("5",), dry_run=True)) == 0
    assert "cifar100/5/sad/none/0" in capsys.readouterr().out


@pytest.mark.parametrize(("codes", "status"), [((0, 0), 0), ((0, -9), 1), ((-9, 0), 1), ((0, 2), 2)])
def test_a_process_that_was_killed_is_no_success(codes: tuple[int, ...], status: int, tmp_path: Path) -> None:
    """-9, out of memory, is less than the 0 of the others."""
    left = list(codes)
    started: list[list[str]] = []

    def popen(arguments: list[str], env: dict[str, str]) -> mock.Mock:
        started.append(arguments)
        return mock.Mock(wait=mock.Mock(return_value=left.pop(0)))

    drawn: list[Any] = []
    with (
        mock.patch.object(cell_task, "check_tasks"),
        mock.patch.object(cli_experiment.subprocess, "Popen", popen),
        mock.patch.object(cli_experiment, "_plot", lambda *given: drawn.append(given) or 0),
        mock.patch.object(cli_experiment.sys, "argv", ["kka", "experiment", "table3", "--jobs", "2"]),
    ):
        assert run_experiment(command(tmp_path, "table3", jobs=2)) == status
    assert len(started) == 2 and all(arguments[-3:] == ["--jobs", "1", "--no-draw"] for arguments in started)
    assert len(drawn) == (status == 0)  # by the parent alone, and only what is whole


def test_random_weights_are_another_backbone(tmp_path: Path) -> None:
    """They would pass for the pretrained ones in every table."""
    backbones = (BackboneSettings(name="mobilenetv2_100", weights=weights) for weights in ("hub", "random"))
    plans = [plan_of(command(tmp_path, "table2", backbone=backbone)) for backbone in backbones]
    assert [plan.backbone for plan in plans] == ["mobilenetv2_100", "mobilenetv2_100+random"]


def test_a_row_holds_what_it_is_of(tmp_path: Path) -> None:
    store(tmp_path / "results.jsonl", none=0.5)
    row = json.loads((tmp_path / "results.jsonl").read_text())
    assert row["id"] == "ucm_caption/3+16/sad/none/0/withheld/cpu" and row["auroc"] == 0.5
