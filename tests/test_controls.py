"""Controls and choices: what an arm trains with must be what its name says, and never a test picture."""

import dataclasses
import io
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fakes import Painter, small_task
from kka.algorithm.folder import RunFolder
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.algorithm.textures import texture_images
from kka.algorithm.traces import draw_traces
from kka.common.metrics import share_flagged
from kka.common.pixels import square
from kka.common.store import Store
from kka.config import RunConfig
from kka.data.other import pictures_of_another_kind
from kka.errors import UserError
from kka.experiments.engine import cell_task
from kka.experiments.engine.arms import Arm
from kka.experiments.engine.cell_task import check_tasks, data_digest, open_cell_task, other_of
from kka.experiments.engine.cells import Cell, Row
from kka.experiments.engine.choices import CHOICES, chosen
from kka.experiments.engine.leaks import check_images
from kka.experiments.engine.others import other_images
from kka.experiments.engine.place import Place
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.pools import pool_config, pool_name
from kka.experiments.engine.provenance import settings_of
from kka.experiments.engine.summary import complete, gains, holm, p_value, tasks_and_seeds
from kka.experiments.engine.traces import draws, ensure_traces
from kka.experiments.hardness import table as hardness_table
from kka.experiments.leading import WAYS, variant
from kka.experiments.leading import table as leading_table
from kka.experiments.table3 import arms, rounds_table
from kka.settings.backbone import BackboneSettings


def cell(**given: object) -> Cell:
    usual = {"dataset": "oxford102", "normal": "26", "detector": "sad", "arm": "other", "seed": 0}
    return Cell(**usual | given)  # type: ignore[arg-type]


def row(**given: object) -> Row:
    usual = dict(dataset="oxford102", normal="1", detector="sad", arm="none", seed=0, auroc=0.5, scale="cpu")
    return Row(**usual | given)  # type: ignore[arg-type]


def png(value: int, side: int = 16) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def other_set(folder: Path) -> None:
    """Training pictures of 40 greys from 10 on, a class for each two; and one test picture, of grey 250."""
    folder.mkdir(parents=True)
    for name, values in (("train", range(10, 50)), ("test", [250])):
        rows = [{"image": {"bytes": png(v), "path": f"{v}.png"}, "label": v // 2, "label_name": f"grey {v // 2}"}
                for v in values]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def test_textures_differ_and_come_again() -> None:
    """Alike ones would be one anomaly; others at each call would be another control."""
    images = texture_images(24, 16, 30, seed=3)
    assert images.shape == (30, 24, 16, 3) and images.dtype == np.uint8
    assert np.array_equal(images[:7], texture_images(24, 16, 7, seed=3))
    assert len({image.tobytes() for image in images}) == 30
    assert not np.array_equal(images, texture_images(24, 16, 30, seed=4))
    assert all(np.ptp(image.astype(int), axis=(0, 1)).max() > 20 for image in images)
    assert images.mean(axis=(1, 2, 3)).std() > 10  # of many colours


def test_other_pictures_are_of_the_training_side(tmp_path: Path) -> None:
    """A test picture of another set, a class too like the task's, or one of the task's own test set must not come."""
    other_set(tmp_path / "set")
    task = small_task()
    found = pictures_of_another_kind(str(tmp_path / "set"), task, 99, seed=0, without=("grey 5", "6"))
    assert sorted({int(image[0, 0, 0]) for image in found}) == list(range(14, 50)) and len(found) == 36
    few = pictures_of_another_kind(str(tmp_path / "set"), task, 5, seed=1)
    assert few.shape == (5, *task.normals.shape[1:]) and len({int(image[0, 0, 0]) for image in few}) == 5
    assert task.test is not None
    task.test.images[3] = 20
    found = pictures_of_another_kind(str(tmp_path / "set"), task, 99, seed=0)
    assert 20 not in found[:, 0, 0, 0] and len(found) == 39
    assert check_images(task, {"other": found}) > 39
    for name in ("train/a", "test/a"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(3):
            (tmp_path / f"photos/{name}/{k}.png").write_bytes(png(100 + k + 50 * (name == "test/a")))
    photos = pictures_of_another_kind(str(tmp_path / "photos"), task, 9, seed=0)
    assert sorted(photos[:, 0, 0, 0].tolist()) == [100, 101, 102]
    long = np.random.default_rng(7).integers(0, 256, (8, 24, 3), dtype=np.uint8)  # no square: cut or padded otherwise
    Image.fromarray(long).save(tmp_path / "photos/train/a/long.png")
    fitted = square(Image.fromarray(long), task.normals.shape[1], "pad")
    assert task.test is not None
    held = dataclasses.replace(task.test, images=np.stack([np.asarray(fitted)] * len(task.test.images)))
    of_photos = dataclasses.replace(task, test=held, fit="pad")
    assert len(pictures_of_another_kind(str(tmp_path / "photos"), of_photos, 99, seed=0)) == len(photos)
    with pytest.raises(UserError, match="other: expected a folder"):
        pictures_of_another_kind(str(tmp_path / "none"), task, 5, seed=0)


def test_what_is_other_to_a_data_set(tmp_path: Path) -> None:
    """Flowers are nothing else beside flowers. The other set's files are a part of what a figure was made with."""
    assert other_of(cell()).name == "cifar100" and "coarse:flowers" in other_of(cell()).without
    assert other_of(cell(dataset="cifar100", normal="coarse:trees")).name == "oxford102"
    assert other_of(cell(dataset="cifar100", normal="coarse:flowers")).name == "ucm_caption"
    task = small_task()
    with pytest.raises(UserError, match="kka data prepare cifar100"):
        other_images(cell(), task, 5, tmp_path)
    textures = other_images(cell(dataset="garden", normal="daisy"), task, 5, tmp_path)
    assert textures.shape == (5, *task.normals.shape[1:])
    place = Place(data=tmp_path, work=tmp_path, backbone=BackboneSettings())
    assert settings_of(cell(), place)["other.name"] == "cifar100" and "other.data" not in settings_of(cell(), place)
    other_set(tmp_path / "cifar100")
    assert settings_of(cell(), place)["other.data"] == data_digest("cifar100", tmp_path)
    assert "other.name" not in settings_of(cell(arm="noise"), place)


def test_traces_are_the_normals_captions(tmp_path: Path) -> None:
    """In turn, each with a seed of its own; drawn once."""
    task, config = small_task(), RunConfig()
    with Store(tmp_path / "run", config.as_dict()) as store:
        draw_traces(task, Painter(), len(task.captions) + 2, store=store, cache=None, seed=1)
        made = RunFolder(tmp_path / "run")
        assert made.has_traces
        traces = made.traces()
        assert [entry.caption for entry in traces.entries] == [*task.captions, *task.captions[:2]]
        assert len({entry.seed for entry in traces.entries}) == len(traces)
        broken = mock.Mock(identity="x", spec=Painter)
        draw_traces(task, broken, 3, store=store, cache=None, seed=1)
        broken.draw.assert_not_called()
    place = Place(data=tmp_path, work=tmp_path, backbone=BackboneSettings())
    with pytest.raises(UserError, match="arm traces: expected an image model that draws"):
        ensure_traces(cell(arm="traces"), task, place)


def test_traces_are_planned_where_the_model_draws() -> None:
    """A bank has no picture of a normal."""
    assert draws("garden", ()) and not draws("oxford102", ())
    assert draws("oxford102", ("images=diffusers:x",)) and not draws("garden", ("images=bank:x",))
    assert not draws("garden", ("lm=defects", "images=paint")) and draws("oxford102", ("images=inpaint:x",))
    own = {kind: draws("garden", (f"images={kind}",)) for kind in ("fakes:Painter", "test_altering:Squares")}
    assert own == {"fakes:Painter": True, "test_altering:Squares": False}
    assert draws("garden", ("images=test_altering:Dim",))
    plan = Plan(datasets=("garden",), seeds=[0], scale="cpu", protocol="withheld", backbone="")
    assert arms("garden", plan)[-1] == "traces" and "traces" not in arms("oxford102", plan)
    assert plan.cell("garden", "daisy", "sad", "traces", 0).needs_pool


def test_the_share_that_is_flagged() -> None:
    """At the threshold that a twentieth of the normals exceeds: normals themselves would give 5 %."""
    normals = np.arange(101, dtype=float)
    assert share_flagged(normals, np.array([94.0, 95.0, 95.5, 200.0])) == 0.5
    assert share_flagged(normals, normals) == pytest.approx(5 / 101)


def test_everything_has_its_last_judgement(tmp_path: Path) -> None:
    """What was in the pool was judged again, also if it left then; what never entered keeps its first judgement."""
    made = RunFolder(tmp_path)

    def entry(name: str, number: int, history: tuple[tuple[int, float], ...] = ()) -> Lineage:
        texts = dict.fromkeys(("prompt", "caption", "language_model", "image_model", "key"), name)
        return Lineage(id=name, round=number, seed=0, history=history, **texts)

    def write(number: int, stage: str, file: str, entries: list[Lineage]) -> None:
        path = made.file(number, stage, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        images = np.stack([np.full((4, 4, 3), 10 * e.round + int(e.id[-1]), np.uint8) for e in entries])
        AnomalyPool(tuple(entries), images).save(path)
        (path.parent / "stage.json").write_text("{}")

    def judge(number: int, stage: str, scores: dict[str, float]) -> None:
        lines = [f'{{"id": "{k}", "relative_distance": {v}, "hard": {str(v < 1).lower()}}}' for k, v in scores.items()]
        path = made.file(number, stage, "scores.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")

    write(0, "images", "images.parquet", [entry("a0", 0), entry("a1", 0)])
    write(1, "images", "images.parquet", [entry("b0", 1), entry("b1", 1)])
    judge(1, "evaluator", {"a0": 2.0, "a1": 3.0})
    judge(1, "scores", {"b0": 0.5, "b1": 1.5})
    write(1, "pool", "pool.parquet", [entry("a1", 0, ((1, 3.0),)), entry("b0", 1, ((1, 0.5),))])
    write(2, "images", "images.parquet", [entry("c0", 2)])
    judge(2, "evaluator", {"a1": 0.9, "b0": 1.2})
    judge(2, "scores", {"c0": 0.7})
    write(2, "pool", "pool.parquet", [entry("a1", 0, ((1, 3.0), (2, 0.9))), entry("c0", 2, ((2, 0.7),))])
    everything = made.everything()
    assert {e.id: e.relative for e in everything.entries} == {"a0": 2.0, "a1": 0.9, "b0": 1.2, "b1": 1.5, "c0": 0.7}
    assert everything.images[:, 0, 0, 0].tolist() == [0, 1, 10, 11, 20]


def test_choices_are_what_they_say() -> None:
    """60 hard of 400: shares are equal in number, few ones as many as asked, quarters a hundred each."""
    rng = np.random.default_rng(0)
    relative = rng.permutation(np.concatenate([np.linspace(0.2, 0.99, 60), np.linspace(1, 4, 340)]))
    rounds = np.repeat([0, 1, 2, 3], 100)
    found = {name: chosen(choice, relative, rounds, seed=1) for name, choice in CHOICES.items()}
    assert all(len(set(places.tolist())) == len(places) for places in found.values())
    hard = {name: int((relative[places] < 1).sum()) for name, places in found.items()}
    for share in (0, 25, 50, 75, 100):
        assert len(found[f"share-{share}"]) == 60 and hard[f"share-{share}"] == 60 * share // 100
    for n in (10, 25, 50):
        assert len(found[f"few-{n}-hard"]) == len(found[f"few-{n}-any"]) == hard[f"few-{n}-hard"] == n
    assert hard["few-50-any"] < 25
    quarters = [relative[found[f"quarter-{k}"]] for k in (1, 2, 3, 4)]
    assert [len(q) for q in quarters] == [100] * 4
    assert all(a.max() < b.min() for a, b in pairwise(quarters))
    band = relative[found["band"]]
    assert band.min() >= 0.7 and band.max() <= 1.5 and len(band) == int(((relative >= 0.7) & (relative <= 1.5)).sum())
    assert set(rounds[found["untuned"]]) == {0} and len(found["untuned"]) == 100
    assert set(rounds[found["tuned"]]) == {1, 2, 3} and len(found["tuned"]) == 200
    assert set(found["share-25"][relative[found["share-25"]] < 1]) <= set(found["share-75"])
    other = chosen(CHOICES["share-50"], relative, rounds, seed=2)
    assert not np.array_equal(other, found["share-50"])
    easy = chosen(CHOICES["share-0"], np.full(9, 2.0), np.zeros(9, int), seed=0)
    assert len(easy) == 0  # no hard ones to set against: none, and not nine in silence
    assert {Arm.named(name).title for name in CHOICES} == {choice.title for choice in CHOICES.values()}


def test_holm_and_the_paired_test() -> None:
    """By hand: 0.01 x 4, 0.02 x 3, then 0.03 x 2 and 0.04 x 1, none below the one before it."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0] and holm([]) == []
    # t = 2 / (1 / sqrt 3) = 3.4641 with 2 degrees of freedom: p = 1 - t / sqrt(t^2 + 2) = 0.0742
    assert p_value([1.0, 2.0, 3.0]) == pytest.approx(1 - 12**0.5 / 14**0.5)
    assert p_value([1.0]) is None and p_value([2.0, 2.0]) is None
    rows = [row(normal=str(n), arm=arm, auroc=0.5 + 0.01 * n * k) for n in (1, 2, 3) for k, arm in
            enumerate(("other", "rep-0", "rep-1"))]  # fmt: skip
    found = gains(rows, "sad", [("rep-0", "other"), ("rep-1", "other"), ("add-1", "other")])
    assert found == {"rep-0": "+2.0 ± 2.5 (p 0.15)", "rep-1": "+4.0 ± 5.0 (p 0.15)", "add-1": "–"}


def test_tables_show_what_stands_above_something_else() -> None:
    """And rounds that closed, and what the detector calls the normals' own captions; only where rows say so."""
    base = [row(arm=arm, auroc=value) for arm, value in (("none", 0.5), ("rep-0", 0.8), ("rep-1", 0.85))]
    assert "something else |" not in rounds_table(base, {})[0] and "closed" not in rounds_table(base, {})[0]
    more = [*base, row(arm="other", auroc=0.7), row(arm="traces", auroc=0.6)]
    more[2] = dataclasses.replace(more[2], closed=True, traces=0.25)
    lines = rounds_table(more, {})
    titles = [title.strip() for title in lines[0].split("|")]
    shown = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")] for line in lines[2:]}
    kka = dict(zip(titles, shown["KKA (1), rep"], strict=True))
    assert (kka["over something else"], kka["over KKA (0)"], kka["over no anomalies"]) == ("+15.0", "+5.0", "+35.0")
    assert (kka["closed"], kka["normals' captions flagged"]) == ("1 of 1", "25 %")
    assert "pictures of the normals' own captions" in shown


def test_hardness_and_leading_tables() -> None:
    """A choice beside the one that it is set against; a way beside sampling on."""
    rows = [
        row(arm="share-0", anomalies=60, hard=0, relative=2.0, auroc=0.7),
        row(arm="share-50", anomalies=60, hard=30, relative=1.0, auroc=0.75),
    ]
    line = next(line for line in hardness_table(rows, "oxford102") if "| 50 % hard |" in line)
    assert "| 0 % hard | 60 | 50 % | 1.00 | 75.0 | +5.0 |" in line
    none = [row(arm="share-0", anomalies=0), row(arm="share-50", anomalies=0)]  # a pool without a hard one
    assert not any("+" in line for line in hardness_table(none, "oxford102"))
    ways = [variant(way, "garden") for way in WAYS]
    assert ways[:2] == ["steer=none,fresh=800", "steer=dpo,fresh=800"] and len(set(ways)) == len(ways)
    rows = [
        row(dataset="garden", arm=f"rep-{n}", variant=given, auroc=0.6 + 0.1 * k, fresh_hard=0.1 * n, generated=800 * n)
        for k, given in enumerate(ways[:2]) for n in (1, 2, 3)
    ]  # fmt: skip
    lines = leading_table([dataclasses.replace(r, variant=f"lm=x,{r.variant}") for r in rows[3:]] + rows[:3], "garden")
    assert "| tuned (Eq. 7) | 70.0 | +10.0 | 10 % | 20 % | 30 % | 2,400 | 1 task × 1 seed |" in lines
    alone = row(dataset="garden", normal="10", arm="rep-3", variant=ways[1], auroc=0.99, fresh_hard=0.3, generated=2400)
    assert any("| tuned (Eq. 7) | 70.0 | +10.0 |" in line for line in leading_table([*rows, alone], "garden"))


def test_split_seeds_are_a_part_of_a_cell(tmp_path: Path) -> None:
    """Old rows mean 0 and keep their names; another split is another task, language model and pool."""
    usual, other = cell(arm="rep-1"), cell(arm="rep-1", split_seed=2)
    assert usual.id == "oxford102/26/sad/rep-1/0/withheld/cpu" and other.id == usual.id + "/split-2"
    assert (pool_name(usual), pool_name(other)) == ("oxford102-26-0-rep", "oxford102-26-0-rep-split-2")
    config = pool_config(other, tmp_path, tmp_path)
    assert config.split_seed == 2 and config.lm.endswith("lm/oxford102-split-2")
    stored = row().as_dict()
    del stored["split_seed"]
    assert Row.from_dict(stored).split_seed == 0
    rows = [row(), row(split_seed=1), row(arm="rep-0")]
    assert complete(rows) == [rows[0], rows[2]]
    assert tasks_and_seeds(rows) == "1 task × 1 seed × 2 splits"


def test_settings_of_the_drawing_model_reach_the_pool(tmp_path: Path) -> None:
    """A pool drawn in 50 steps must not pass for one in 4."""
    config = pool_config(cell(arm="rep-1", variant="images=diffusers:x,drawing.steps=4"), tmp_path, tmp_path)
    assert config.images == "diffusers:x" and config.drawing.steps == 4
    with pytest.raises(UserError, match="unknown setting of the loop's drawing model"):
        pool_config(cell(arm="rep-1", variant="drawing.stops=4"), tmp_path, tmp_path)


def test_the_garden_is_a_data_set(tmp_path: Path) -> None:
    """It needs no files, and its own language model and renderer make the pools."""
    daisy = cell(dataset="garden", normal="daisy", arm="rep-1")
    config = pool_config(daisy, tmp_path, tmp_path)
    assert (config.data, config.normal, config.lm, config.images) == ("garden", ("daisy",), "auto", "auto")
    stand_in = small_task()  # its own 1,600 pictures take seconds
    with mock.patch.object(cell_task, "open_task", return_value=stand_in) as opened:
        open_cell_task(dataclasses.replace(daisy, split_seed=2), tmp_path)
    opened.assert_called_once_with("garden", normal=("daisy",), unseen=0.5, seed=2)
    check_tasks([daisy], tmp_path)
    with pytest.raises(UserError, match="unknown task of garden"):
        check_tasks([cell(dataset="garden", normal="daisies")], tmp_path)
    assert data_digest("garden", tmp_path).startswith("garden-")
