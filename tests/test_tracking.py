"""Experiment trackers are shown what a run stored: each thing once, whatever happens to the run or to them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kka.tracking
from fakes import FAST, fakes_registered
from kka.algorithm.folder import SUMMARY, TRACKING
from kka.errors import UserError
from kka.tracking import TRACKERS, check_trackers
from kka.tracking.follow import Follower
from kka.tracking.news import News, Place


class Notes:
    """A tracker that notes what it is shown; from the `limit`-th time on it fails, as a server that is gone."""

    limit, shown = 10**9, list[News]()

    def __init__(self, argument: str | None, place: Place) -> None:
        self.identity = place.identity or "first"

    def log(self, news: News) -> None:
        if len(self.shown) >= self.limit:
            raise ConnectionError("nobody answers")
        self.shown.append(news)

    def close(self, *, finished: bool) -> None:
        pass


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> type[Notes]:
    """Under the name `tensorboard`, so that no package of that name is needed."""
    monkeypatch.setattr(Notes, "shown", [])
    monkeypatch.setattr(Notes, "limit", 10**9)
    monkeypatch.setattr(kka.tracking, "_class", lambda name: Notes)
    return Notes


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run of two rounds, with a report."""
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "report.html").write_text("<p>A report.</p>")
    return tmp_path / "run"


def show(run: Path, specs: tuple[str, ...], *, until: int | None = None, say: Callable[[str], None] = print) -> None:
    """What `kka.run.execute.run` does; killed after round `until`."""
    with Follower(run, specs, say=say) as follower:
        follower.begin({"rounds": 2, "sad": {"epochs": 1}})
        for number in range(3 if until is None else until + 1):
            follower.round(number)
        if until is None:
            follower.end()


def points(shown: list[News]) -> list[tuple[str, int]]:
    return [(scalar.tag, scalar.step) for news in shown for scalar in news.scalars]


def test_a_resumed_run_shows_nothing_twice_and_loses_nothing(run: Path, notes: type[Notes]) -> None:
    """A curve with two values at a step, or a gap where the run was killed."""
    show(run, ("tensorboard",))
    whole = points(notes.shown)
    assert len(whole) == len(set(whole)) > 60
    sheets = [(sheet.tag, sheet.step) for news in notes.shown for sheet in news.sheets]
    assert sheets == [("pictures", 0), ("pictures", 1), ("pictures", 2)]
    (run / TRACKING).unlink()
    notes.shown.clear()
    for until in (0, 0, 1, None, None):
        show(run, ("tensorboard",) if until == 0 else (), until=until)
    assert sorted(points(notes.shown)) == sorted(whole)
    assert [sheet.step for news in notes.shown for sheet in news.sheets] == [0, 1, 2]
    assert [name for news in notes.shown for name in news.settings] == ["rounds", "sad.epochs"]
    assert [file.name for news in notes.shown for file in news.files] == ["report.html", SUMMARY]


def test_the_figures_are_those_of_the_summary(run: Path, notes: type[Notes]) -> None:
    """A tracker that shows other figures than the report."""
    show(run, ("tensorboard",))
    found = {(s.tag, s.step): s.value for news in notes.shown for s in news.scalars}
    summary = json.loads((run / SUMMARY).read_text())
    for facts in summary["rounds"]:
        number = facts["round"]
        assert found["hard_share/fresh", number] == facts["hard_share_fresh"]
        assert found["pool/size", number] == facts["pool_size"]
        assert found["captions/usable", number] == facts["captions"]
        assert found["test/auroc/kka", number] == pytest.approx(facts["auroc"])
        for name in ("train_loss", "margin", "accuracy", "kl_to_base"):
            assert number == 0 or found[f"dpo/{name}", number] == facts["dpo"][name]
    assert [found["test/auroc/none", k] for k in range(3)] == [summary["arms"]["none"]["auroc"]["mean"]] * 3
    assert {tag for tag, _ in found if tag.startswith("loss/")} == {f"loss/{arm}/seed-0" for arm in summary["arms"]}
    assert ("dpo/validation_loss", 1) not in found  # NaN, as there were no pairs to validate with


def test_a_tracker_that_fails_is_named_once_and_made_up_for(run: Path, notes: type[Notes]) -> None:
    """A server that goes away in the night would take the run with it; or its curves would have a hole."""
    said: list[str] = []
    notes.limit = 2
    show(run, ("tensorboard",), say=said.append)
    assert len(said) == 1 and "tensorboard failed" in said[0] and "nobody answers" in said[0] and "--resume" in said[0]
    notes.limit = 10**9
    show(run, (), say=said.append)
    assert len(said) == 1 and len(points(notes.shown)) == len(set(points(notes.shown)))
    assert {step for tag, step in points(notes.shown) if tag == "pool/size"} == {0, 1, 2}


def test_a_tracker_that_cannot_begin_ends_the_run_only_where_it_was_asked_for(
    run: Path, notes: type[Notes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing error should show at once; but a run must go on when the server of its first night is gone."""
    show(run, ("tensorboard",), until=0)

    def refuses(argument: str | None, place: Place) -> None:
        raise OSError("connection refused")

    monkeypatch.setattr(kka.tracking, "_class", lambda name: refuses)
    with pytest.raises(UserError, match=r"tensorboard cannot begin: connection refused.*leave out --track"):
        show(run, ("tensorboard",))
    said: list[str] = []
    show(run, (), say=said.append)
    assert len(said) == 1 and "connection refused" in said[0]


def test_a_run_shows_itself_as_it_goes(tmp_path: Path, notes: type[Notes]) -> None:
    """`kka run --track` that shows all at the end, or nothing, and forgets its tracker when it is resumed."""
    import dataclasses

    from kka.run.execute import run

    config = dataclasses.replace(FAST, rounds=1)
    with fakes_registered():
        run(config, tmp_path / "run", track=("tensorboard",))
        first = [sorted({scalar.step for scalar in news.scalars if scalar.axis == "round"}) for news in notes.shown]
        assert first == [[], [0], [0, 1], [0, 1]] and notes.shown[0].settings["sad.epochs"] == 1
        run(dataclasses.replace(config, rounds=2), tmp_path / "run", resume=True)
    later = notes.shown[4:]
    assert later[0].settings == {"rounds": 2}
    assert len(points(notes.shown)) == len(set(points(notes.shown)))
    assert {step for tag, step in points(notes.shown) if tag == "test/auroc/kka"} == {0, 1, 2}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("clearml", "unknown track: expected one of mlflow, tensorboard, wandb; got 'clearml'"),
        ("mlflow:", "expected something after mlflow:, or mlflow alone"),
        ("mlflow:https://me:secret@host", "expected an address without user and password"),
        ("mlflow:postgresql://me:secret@host/db", "MLFLOW_TRACKING_URI"),
    ],
)
def test_what_is_wrong_shows_before_the_work(spec: str, told: str) -> None:
    """After hours of work it is late; and a password would lie in the run's folder."""
    with pytest.raises(UserError, match=told.replace("(", r"\(")) as caught:
        check_trackers([spec])
    assert "secret" not in str(caught.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """ModuleNotFoundError helps nobody."""
    monkeypatch.setattr(kka.tracking, "find_spec", lambda name: None)
    for name in TRACKERS:
        with pytest.raises(UserError, match=rf"needs the package {name}: pip install 'kka\[{name}\]'"):
            check_trackers([name])


def test_tensorboard_reads_back_what_was_shown(run: Path) -> None:
    """Event files that TensorBoard cannot read, or with every step twice after a resume."""
    accumulator: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    show(run, ("tensorboard",), until=1)
    show(run, ())
    events = accumulator.EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    summary = json.loads((run / SUMMARY).read_text())
    assert [(e.step, e.value) for e in events.Scalars("hard_share/fresh")] == [
        (facts["round"], pytest.approx(facts["hard_share_fresh"])) for facts in summary["rounds"]
    ]
    assert [e.step for e in events.Images("pictures")] == [0, 1, 2]
    assert events.Images("pictures")[0].width > 300
    assert len(events.Scalars("loss/none/seed-0")) == FAST.sad.epochs
    assert "settings/text_summary" in events.Tags()["tensors"]


# Of MLflow's own use of SQLAlchemy.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlflow_keeps_what_was_shown(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters, curves, pictures and the report, in one run of MLflow that a resumed run goes on with."""
    mlflow: Any = pytest.importorskip("mlflow", reason="needs kka[mlflow], which wants older libraries than the tests")
    monkeypatch.chdir(tmp_path)  # its pictures and files lie in the working folder
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    show(run, (f"mlflow:{address}",), until=1)
    show(run, ())
    client = mlflow.MlflowClient(tracking_uri=address)
    (stored,) = client.search_runs([client.get_experiment_by_name("kka").experiment_id])
    assert stored.info.status == "FINISHED" and stored.data.params["sad.epochs"] == "1"
    curve = client.get_metric_history(stored.info.run_id, "hard_share/fresh")
    assert [point.step for point in curve] == [0, 1, 2]
    files = {file.path for file in client.list_artifacts(stored.info.run_id)}
    assert {"report.html", SUMMARY, "images"} <= files
    assert len(client.list_artifacts(stored.info.run_id, "images")) >= 3


def test_wandb_writes_its_files_offline(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server, a run must still be told, to be sent later."""
    pytest.importorskip("wandb", reason="needs kka[wandb]")
    monkeypatch.setenv("WANDB_MODE", "offline")
    show(run, ("wandb:parts",))
    (written,) = (run / "wandb").glob("offline-run-*/*.wandb")
    text = written.read_bytes()
    assert b"hard_share/fresh" in text and b"test/auroc/kka" in text and b"sad.epochs" in text
    assert len(list(written.parent.rglob("pictures_*.png"))) == 3


def test_wandb_asks_for_an_account_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library asks on the terminal, in the middle of a run."""
    wandb: Any = pytest.importorskip("wandb", reason="needs kka[wandb]")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(type(wandb.api), "api_key", None)
    with pytest.raises(UserError, match="wandb login"):
        check_trackers(["wandb"])


def test_a_sheet_shows_altered_photos_beside_the_normal(tmp_path: Path) -> None:
    """A picture alone does not show where it was altered."""
    from kka.algorithm.facts import RoundFacts
    from kka.report.read import Picture, RoundRecord
    from kka.tracking.sheet import CELL, round_sheet

    class Painted(RoundRecord):
        def views(self, pictures: list[Picture]) -> list[list[Any]]:
            from PIL import Image

            return [[Image.new("RGB", (64, 64), colour) for colour in ("grey", "red", "blue")] for _ in pictures]

    facts = RoundFacts(round=0, captions=3, captions_asked=3, generated=3, set_aside=0, pool_size=3)
    pictures = tuple(Picture(row=i, caption="a crack", relative=r, normal=0) for i, r in enumerate((0.5, 1.5, None)))
    record = Painted(
        number=0, facts=facts, captions=(), pictures=pictures, set_aside=(), images_file=tmp_path,
        normals={0: np.zeros((64, 64, 3), np.uint8)},
    )  # fmt: skip
    sheet = round_sheet(record)
    assert sheet is not None and sheet.dtype == np.uint8
    for colour in ((128, 128, 128), (255, 0, 0), (0, 0, 255)):  # and a few pixels of letters
        assert 0 <= (sheet == colour).all(-1).sum() - 3 * CELL**2 < 100
    assert round_sheet(Painted(**{**vars(record), "pictures": ()})) is None
