"""The experiments' machinery: cells, leaks, pools, concurrency, tables. A tiny data set in the Parquet form."""

import dataclasses
import io
import json
import multiprocessing
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kka.algorithm.folder import RunFolder
from kka.deploy.anomalies import Anomalies, altered_copies
from kka.detectors import fit_detector
from kka.errors import UserError
from kka.experiments import EXPERIMENTS, experiment, table2
from kka.experiments.engine import language_models, pools, runner
from kka.experiments.engine.anomalies import ArmImages, anomalies_of
from kka.experiments.engine.arms import Arm
from kka.experiments.engine.cell_task import check_tasks, open_cell_task
from kka.experiments.engine.cells import Cell, Results, Row, claim
from kka.experiments.engine.compute import build, compute
from kka.experiments.engine.language_models import ensure_language_model
from kka.experiments.engine.leaks import check_captions, check_images
from kka.experiments.engine.place import Place
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.pools import (
    SMOKE,
    BusyError,
    ensure_pool,
    missing_pools,
    pool_config,
)
from kka.experiments.engine.summary import as_text, by_task, complete, gain, mean_over_tasks, rows_of, tasks_and_seeds
from kka.experiments.engine.tasks import DATASETS, SCALES, DataSet, ScaleSettings, classes
from kka.run.comparison import arms
from kka.seeding import derive_seed
from kka.settings.backbone import BackboneSettings

BACKBONE = BackboneSettings(name="mobilenetv2_035", weights="random")
TINY = DataSet(
    name="tiny", title="Tiny", reported=("3", "1"), tuning=("2",), rounds=1, initial=12, fresh=8, per_round=4,
    common_language_model=True, epochs=2,
)  # fmt: skip
NAMES = ["red", "blue", "green", "white", "black", "pink", "yellow", "orange", "purple", "grey"]
SMALL = {"ssd": ("epochs=1",), "recontrast": ("iterations=3", "size=32"), "sad": ("epochs=1", "milestones=")}
QUICK_SCALE = ScaleSettings(preset="cpu", overrides=SMALL)
COLOURS = dict(enumerate(NAMES, start=1))


def _write(path: Path, rng: np.random.Generator, per_class: int) -> None:
    rows = []
    for label, colour in COLOURS.items():
        for k in range(per_class):
            pixels = rng.integers(0, 90, (16, 16, 3)).astype(np.uint8)
            pixels[4:12, 4:12, label % 3] = 200
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, format="PNG")
            words = [f"a {size} {colour} flower with {n} petals before a wall" for size in ("small", "large")
                     for n in ("four", "five", "six")]  # fmt: skip
            rows.append(
                {"image": {"bytes": buffer.getvalue(), "path": f"{label}-{k}.png"}, "label": label,
                 "label_name": f"{colour} flower", "captions": words}
            )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("experiments")
    (root / "data/tiny").mkdir(parents=True)
    rng = np.random.default_rng(0)
    _write(root / "data/tiny/train.parquet", rng, 18)
    _write(root / "data/tiny/test.parquet", rng, 5)
    with mock.patch.dict(DATASETS, {"tiny": TINY}), mock.patch.dict(SMOKE, {"rounds": 1}):
        yield Place(data=root / "data", work=root / "work", backbone=BACKBONE)


def cell(**given: Any) -> Cell:
    usual = {"dataset": "tiny", "normal": "3", "detector": "sad", "arm": "none", "seed": 0, "scale": "smoke"}
    return Cell(**usual | given)


def row(**given: Any) -> Row:
    usual = {"detector": "sad", "arm": "none", "normal": "1", "seed": 0, "auroc": 0.5, "dataset": "tiny"}
    return Row(**usual | {"scale": "cpu", "fit_seconds": 1.0, "score_seconds": 1.0} | given)


def test_cells_say_what_they_are() -> None:
    """Two different cells under one id would share a figure; an unknown arm would be a silent "no anomalies"."""
    cells = [cell(), cell(arm="rep-1"), cell(arm="add-1"), cell(seed=1), cell(variant="quantile=1"), cell(backbone="x")]
    assert len({c.id for c in cells}) == 6
    rep, add = (cell(arm=name).trained_with for name in ("rep-2", "add-2"))
    assert (rep.round, rep.mode, add.mode) == (2, "rep", "add")
    assert cell(arm="add-0").trained_with.mode == "rep" and not cell().needs_pool
    first = cell(arm="first-50").trained_with
    assert (first.kind, first.number, first.round, first.mode) == ("first", 50, 0, "rep")
    assert Arm.named("rep-2").title == "KKA (2), rep" and Arm.named("none").title == "no anomalies"
    for wrong in ("reb-1", "rep", "rep-x"):
        with pytest.raises(UserError, match=f"arm: expected none.*got '{wrong}'"):
            cell(arm=wrong)


def test_results_survive_a_killed_process(tmp_path: Path) -> None:
    """Half a line at the end of the file must cost that line alone, and be told."""
    results = Results(tmp_path / "r.jsonl")
    assert results.rows() == []
    results.append(row(auroc=0.5))
    results.append(row(auroc=0.6))
    assert [r.auroc for r in results.rows()] == [0.6]
    with results.path.open("a") as file:
        file.write('{"id": "ha')
    results.append(row(seed=1, auroc=0.7))
    assert json.loads(results.path.read_text().splitlines()[-1])["auroc"] == 0.7
    with pytest.warns(UserWarning, match="line 3: no result"):
        assert [r.auroc for r in results.rows()] == [0.6, 0.7]
    with results.path.open("ab") as file:
        file.write(b'{"id": "x"}\n{"id": "\xc3')  # no figure; and cut within a letter
    with pytest.warns(UserWarning) as told:
        assert len(results.rows()) == 2
    texts = [str(warning.message) for warning in told]
    assert any("line 5: no result (without dataset" in text for text in texts) and any("line 6" in t for t in texts)
    with pytest.raises(UserError, match="is a folder"):
        Results(tmp_path)


def _take(folder: Path, ready: Any, release: Any) -> None:
    with claim(folder, "a") as mine:
        assert mine
        ready.set()
        release.wait(20)


def test_a_claim_is_one_process_s_own(tmp_path: Path) -> None:
    """Two processes on one cell would do the work twice; a dead one's claim must be free again."""
    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=_take, args=(tmp_path, ready, release))
    other.start()
    assert ready.wait(20)
    with claim(tmp_path, "a") as mine, claim(tmp_path, "b") as second:
        assert not mine and second
    other.kill()
    other.join()
    with claim(tmp_path, "a") as mine:
        assert mine


def test_the_whole_of_a_table(place: Place, tmp_path: Path) -> None:
    """Every arm from data to figure, stored; a second run computes nothing."""
    results = Results(tmp_path / "r.jsonl")
    plan = Plan(datasets=("tiny",), chosen=("3",), seeds=[0], scale="smoke", protocol="withheld", backbone="")
    cells = [c for c in experiment("table3").cells(plan) if c.arm in ("none", "noise", "rep-0", "rep-1", "real")]
    told: list[Any] = []
    runner.run_cells(cells, place, results, lambda *said: told.append(said))
    rows = {r.arm: r for r in results.rows()}
    assert rows.keys() == {"none", "noise", "rep-0", "rep-1", "real"} and len(told) == 10
    assert rows["none"].anomalies == rows["none"].generated == 0 and rows["none"].hard is None
    first = rows["rep-0"].anomalies
    spent = [rows[arm].tokens_written or 0 for arm in ("none", "rep-0", "rep-1")]
    assert spent[0] == 0 < spent[1] < spent[2] and rows["rep-1"].cost is None  # no prices
    assert 12 <= first == rows["rep-0"].generated <= 24  # a barely trained language model may write fewer
    assert rows["rep-1"].anomalies == first and first + 8 <= rows["rep-1"].generated <= first + 16
    assert all(0 <= r.auroc <= 1 and None not in (r.seen, r.unseen) for r in rows.values())
    assert rows["none"].normals == 18
    assert (rows["none"].test_normals, rows["none"].test_anomalies) == (5, 45)
    before = results.path.read_text()
    assert before.count("\n") == 5
    with mock.patch.object(runner, "compute", side_effect=AssertionError):
        runner.run_cells(cells, place, results)
    assert results.path.read_text() == before


def test_modes_part_after_the_first_images_of_round_one(place: Place) -> None:
    """Add and rep share what comes before, so that their difference is the mode's alone; and each resumes."""
    task = open_cell_task(cell(), place.data)
    rep, add = (anomalies_of(cell(arm=arm), task, place) for arm in ("rep-1", "add-1"))
    assert rep.images is not None and add.images is not None and add.hard is not None
    assert 12 <= len(rep.images) <= len(add.images) and len(add.hard) == len(add.images)
    folders = [ensure_pool(cell(arm=arm), task, place.data, place.work) for arm in ("rep-1", "add-1")]
    stages = [(folder / "rounds/1/scores/stage.json").read_bytes() for folder in folders]
    assert folders[0] != folders[1] and stages[0] == stages[1]  # with the seconds that it took: not made again
    assert "mode: add" in (folders[1] / "config.yaml").read_text()


def test_missing_pools_are_counted_once(place: Place) -> None:
    """The estimate of a table: rounds of one mode share a pool, and round 0 is that of rep; controls have none."""
    task = open_cell_task(cell(), place.data)
    ensure_pool(cell(arm="rep-1"), task, place.data, place.work)
    arms = ("none", "real", "rep-0", "rep-1", "add-0", "add-1")
    cells = [cell(arm=arm, seed=seed) for seed in (0, 11) for arm in arms]
    found = missing_pools(cells, place.work)
    ensured = (place.work / "pools/tiny-3-0-add-smoke/done").is_file()
    assert [(c.seed, c.trained_with.mode) for c in found] == [(0, "add")] * (not ensured) + [(11, "rep"), (11, "add")]


def test_a_pool_in_other_hands_is_busy(place: Place) -> None:
    """Waiting for another process's pool would idle a core that has other cells to compute."""
    task = open_cell_task(cell(), place.data)
    out = place.work / "pools" / "tiny-3-7-rep-smoke"
    with claim(place.work / "claims", str(out)) as mine, pytest.raises(BusyError):
        assert mine
        # another open file of the same process counts as another holder
        ensure_pool(cell(arm="rep-1", seed=7), task, place.data, place.work)


def test_variants_change_the_loop(place: Place) -> None:
    """The ablation of a setting would otherwise measure the default against itself."""
    config = pool_config(cell(arm="rep-1", variant="max_hard_share=0.3,folds=1"), place.data, place.work)
    assert config.max_hard_share == 0.3 and config.folds == 1
    with pytest.raises(UserError, match="unknown setting of the loop"):
        pool_config(cell(arm="rep-1", variant="hardness=1"), place.data, place.work)


def test_variants_set_up_the_models(place: Place) -> None:
    """Whatever `kka run` takes under --language and --drawing; what is wrong names the setting."""
    texts = "language.temperature=0.8,language.max_new_tokens=none,drawing.steps=10,folds=1"
    config = pool_config(cell(arm="rep-1", variant=texts), place.data, place.work)
    usual = pool_config(cell(arm="rep-1"), place.data, place.work)
    changed = {"temperature": 0.8, "max_new_tokens": None}
    assert config.language == dataclasses.replace(usual.language, **changed)
    assert (config.drawing.steps, config.folds) == (10, 1)
    wrong = {
        "language.temperature=0": "loop's language model: expected temperature to be a number above 0",
        "drawing.colour=1": "unknown setting of the loop's drawing model",
        "detector.epochs=1": "unknown setting of the loop: ",
    }
    for variant, told in wrong.items():
        with pytest.raises(UserError, match=told):
            pool_config(cell(arm="rep-1", variant=variant), place.data, place.work)


def test_smoke_cuts_the_answers_of_models_that_it_trains_alone(place: Place) -> None:
    """A chat model that is cut off within its first sentence writes nothing that can be used."""

    def tokens(variant: str) -> int | None:
        return pool_config(cell(arm="rep-1", variant=variant), place.data, place.work).language.max_new_tokens

    assert (tokens(""), tokens("folds=1"), tokens("lm=hf:/x"), tokens("lm=hf:/x,folds=1")) == (24, 24, 96, 96)
    assert tokens("language.max_new_tokens=50") == tokens("language.max_new_tokens=50,lm=hf:/x") == 50


def test_small_models_write_as_stored_pools_say(place: Place) -> None:
    """A default that has become a rule of the model's size must not refuse the pools of before, which are the same."""

    def asked(variant: str) -> tuple[float | None, int | None]:
        language = pool_config(cell(arm="rep-1", variant=variant), place.data, place.work).language
        return language.temperature, language.batch_size

    assert asked("") == asked("folds=1") == (1.0, 256)
    assert asked("lm=hf:/x") == (None, None)


def test_a_pool_of_other_settings_is_refused(place: Place) -> None:
    """A default that changes must not leave its old pools under the new figures."""
    task = open_cell_task(cell(), place.data)
    out = ensure_pool(cell(arm="rep-1", seed=3), task, place.data, place.work)
    config = out / "config.yaml"
    config.write_text(config.read_text().replace("quantile: 0.8", "quantile: 0.7"))
    with pytest.raises(UserError, match=r"(?s)made with other settings:.*quantile: started with 0.7, got 0.8.*Remove"):
        ensure_pool(cell(arm="rep-1", seed=3), task, place.data, place.work)


def test_variants_take_over_what_they_would_make_the_same(place: Place) -> None:
    """Without preference tuning the first images and their judgement are the default's; what follows is not."""
    task = open_cell_task(cell(), place.data)
    usual = ensure_pool(cell(arm="rep-1"), task, place.data, place.work)
    other = ensure_pool(cell(arm="rep-1", variant="steer=none"), task, place.data, place.work)

    def text(root: Path, name: str) -> str:
        return (root / "rounds" / name).read_text()

    for name in ("0/captions/captions.jsonl", "1/evaluator/stage.json"):
        assert text(usual, name) == text(other, name)  # with the seconds that it took: copied, not made again
    assert json.loads(text(usual, "1/dpo/dpo.json"))["tuned"] and not json.loads(text(other, "1/dpo/dpo.json"))["tuned"]
    stricter = ensure_pool(cell(arm="rep-1", variant="quantile=0.5"), task, place.data, place.work)
    assert text(usual, "1/evaluator/scores.jsonl") != text(stricter, "1/evaluator/scores.jsonl")


def test_a_language_model_of_other_captions_is_refused(place: Place) -> None:
    """A class that joins the reported tasks must not be known to the model that they share."""
    ensure_language_model(cell(), place.data, place.work)
    folder = place.work / "lm" / "tiny-smoke"
    marker = place.work / "lm" / "tiny-smoke.made_from"
    before = marker.read_text()
    ensure_language_model(cell(normal="1"), place.data, place.work)  # the same model serves it
    assert marker.read_text() == before and (folder / "config.json").is_file()
    known = language_models.language_task("tiny", ("3", "1"), "withheld", place.data).knowledge
    assert known is not None
    another = next(str(label) for label, colour in COLOURS.items() if f"{colour} flower" in known.kinds)
    grown = dataclasses.replace(TINY, reported=("3", "1", another))
    with mock.patch.dict(DATASETS, {"tiny": grown}), pytest.raises(UserError, match=r"other captions.*train it anew"):
        ensure_language_model(cell(), place.data, place.work)


def test_a_common_language_model_knows_what_all_its_tasks_may_know(place: Place) -> None:
    """Neither a task's normals nor a class that one of them withholds."""
    tasks = [open_cell_task(cell(normal=normal), place.data) for normal in ("3", "1")]
    known = [set(task.knowledge.kinds) for task in tasks if task.knowledge is not None]
    common = language_models.language_task("tiny", ("3", "1"), "withheld", place.data)
    assert common.knowledge is not None
    kinds = set(common.knowledge.kinds)
    assert kinds == known[0] & known[1] and 0 < len(kinds) < len(known[0])
    assert not kinds & {"red flower", "green flower"}
    assert not any(word in text for texts in common.knowledge.captions for text in texts for word in ("red", "green"))


def test_a_planted_caption_stops_the_language_model(place: Place, tmp_path: Path) -> None:
    """The check stands in the way of training, and of a model that is there already."""
    known = language_models.language_task("tiny", ("3", "1"), "withheld", place.data).knowledge
    assert known is not None
    test = [known.captions[0][0]]
    language_models.language_task.cache_clear()

    def captions(file: Path) -> list[str]:
        return test if file.stem == "test" else ["something else"]

    with (
        mock.patch.object(language_models, "_captions", captions),
        mock.patch.object(language_models, "train_corpus_model", side_effect=AssertionError("trained on a leak")),
        pytest.raises(UserError, match=r"leak: .* of the language model's corpus"),
    ):
        ensure_language_model(cell(), place.data, tmp_path)
    language_models.language_task.cache_clear()


@pytest.mark.parametrize("name", ["figure5", "figure6"])
def test_a_planted_leak_stops_a_figure(name: str, place: Place, tmp_path: Path) -> None:
    """Figures train detectors of their own."""
    from kka.experiments.engine import compute as module

    task = open_cell_task(cell(), place.data)
    assert task.test is not None
    plan = Plan(datasets=("tiny",), chosen=("3",), seeds=[0], scale="smoke", protocol="withheld", backbone="b")
    leaking = ArmImages(images=task.test.images[:3])
    with (
        mock.patch.object(module, "anomalies_of", return_value=leaking),
        pytest.raises(UserError, match="leak: 3 of the 3"),
    ):
        experiment(name).draw(plan, place, [], tmp_path)
    assert not list(tmp_path.glob("*.png"))


def test_two_rows_of_one_task_and_seed_are_refused() -> None:
    """Those of another backbone would replace a figure in silence, and a gain would be between the two."""
    rows = [row(backbone="a", auroc=0.9), row(backbone="b", auroc=0.99)]
    with pytest.raises(UserError, match="two rows of sad, none, 1, seed 0, the later with backbone 'b'"):
        mean_over_tasks(rows, "sad", "none")


def test_a_table_is_of_the_tasks_that_have_every_arm() -> None:
    """Means of unlike tasks side by side read as a difference between arms; each detector has arms of its own."""
    rows = [row(), row(arm="rep-0"), row(normal="2"), row(seed=1), row(seed=1, arm="rep-0"), row(detector="ssd")]
    assert complete(rows) == [rows[0], rows[1], rows[3], rows[4], rows[5]] and complete([]) == []


def test_scale_full_has_the_published_evaluator(place: Place) -> None:
    """150 to 300 epochs at 1e-4, falling at 50: the detector's settings would not be the paper's either."""
    sad = pool_config(cell(scale="full", dataset="ucm_caption", normal="3+16", arm="rep-1"), place.data, place.work).sad
    assert (sad.epochs, sad.learning_rate, sad.milestones) == (300, 1e-4, (50 / 300,)) and sad.falls == (50,)


def test_a_table_takes_its_own_rows_alone() -> None:
    """Tuning tasks and variants of the loop stand in the same file as the reported figures."""
    plan = Plan(datasets=("oxford102",), seeds=[0], scale="cpu", protocol="withheld", backbone="b")
    own = {"dataset": "oxford102", "normal": "26", "protocol": "withheld", "variant": ""}
    rows = [row(**own | given) for given in (
        {}, {"seed": 5}, {"arm": "rep-3"}, {"normal": "82"}, {"variant": "quantile=1", "arm": "rep-3"},
        {"scale": "smoke"}, {"protocol": "paper"}, {"variant": "initial=800,rounds=0", "arm": "first-50"},
    )]  # fmt: skip
    assert rows_of(rows, experiment("table3").cells(plan)) == rows[:3]
    assert rows_of(rows, experiment("figure4").cells(plan)) == [rows[2], rows[7]]
    assert rows_of(rows, experiment("ablation").cells(plan)) == []


def test_leaks_of_images_are_caught(place: Place) -> None:
    """One test image among the anomalies, one in the bank, one among the normals: each stops the experiment."""
    task = open_cell_task(cell(), place.data)
    assert task.test is not None and task.knowledge is not None
    clean = np.random.default_rng(9).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    own = len(task.normals) + len(task.knowledge.images)
    assert check_images(task, {"the pool": clean, "nothing": None}) == 4 + own
    planted = np.concatenate([clean, task.test.images[5:6]])
    with pytest.raises(UserError, match=r"leak: 1 of the 5 images of the pool .* place 4"):
        check_images(task, {"the pool": planted})
    task.knowledge.images[2] = task.test.images[0]
    with pytest.raises(UserError, match="images of the image bank"):
        check_images(task, {})


def test_a_planted_leak_stops_a_cell(place: Place) -> None:
    """The check must stand before the training, not beside it."""
    from kka.experiments.engine import compute as module

    task = open_cell_task(cell(), place.data)
    assert task.test is not None
    leaking = ArmImages(images=task.test.images[:3])
    with (
        mock.patch.object(module, "anomalies_of", return_value=leaking),
        mock.patch.object(module, "fit_detector", side_effect=AssertionError("trained on a leak")),
        pytest.raises(UserError, match="leak: 3 of the 3"),
    ):
        compute(cell(arm="real"), place)


def test_leaks_of_captions_are_caught() -> None:
    """A caption that only test images have; one that training images share tells nothing."""
    test, training = ["A secret bloom of gold.", "a red flower"], ["a red flower", "a blue flower"]
    assert check_captions(["a red flower", "a blue flower"], test, training) == 2
    with pytest.raises(UserError, match=r"leak: 1 captions .* 'a secret bloom of gold'"):
        check_captions(["a blue flower", "a secret bloom of gold"], test, training)


def test_controls_of_adding_have_as_many_images(place: Place) -> None:
    """Else what adding gains could be the number's doing. any: the first generation whole, then others at random."""
    task = open_cell_task(cell(), place.data)
    found = {arm: anomalies_of(cell(arm=arm), task, place) for arm in ("rep-0", "add-1", "any-1", "real-1", "real")}
    images = {arm: a.images for arm, a in found.items() if a.images is not None}
    first, number = len(images["rep-0"]), len(images["add-1"])
    assert len(images["any-1"]) == len(images["real-1"]) == number >= first
    assert np.array_equal(images["any-1"][:first], images["rep-0"])
    assert found["any-1"].generated == found["add-1"].generated and found["real-1"].generated == 0
    drawn = RunFolder(ensure_pool(cell(arm="any-1"), task, place.data, place.work)).fresh(1).images
    hashes = {image.tobytes() for image in drawn}
    assert all(image.tobytes() in hashes for image in images["any-1"][first:])
    assert cell(arm="any-1").trained_with.mode == cell(arm="real-1").trained_with.mode == "add"
    assert Arm.named("any-1").title == "KKA (1), random ones added"


def test_masks_of_altered_normals_reach_the_detector(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the arm takes of what was made, each with its own mask; controls that are drawn whole have none."""
    ensure_language_model(cell(arm="rep-1"), place.data, place.work)
    variant = f"lm=hf:{place.work}/lm/tiny-smoke,images=test_altering:Squares,steer=none"
    task = open_cell_task(cell(), place.data)
    for arm in ("rep-0", "rep-1", "first-8", "any-1", "share-0", "few-10-any"):
        found = anomalies_of(cell(arm=arm, variant=variant), task, place)
        assert found.images is not None and found.masks is not None and len(found.images) == len(found.masks) > 0
        of_normals = altered_copies(Anomalies(images=found.images, masks=found.masks), task.normals)
        assert of_normals.all() and (found.masks > 0).sum(axis=(1, 2)).max() == 16
    assert anomalies_of(cell(arm="noise", variant=variant), task, place).masks is None
    given: list[Any] = []

    def fit(detector: Any, normals: Any, anomalies: Any, **known: Any) -> Any:
        given.append((anomalies, known["masks"]))
        return fit_detector(detector, normals, anomalies, **known)

    monkeypatch.setattr("kka.experiments.engine.compute.fit_detector", fit)
    compute(cell(arm="rep-1", variant=variant), place)
    pool = anomalies_of(cell(arm="rep-1", variant=variant), task, place)
    assert np.array_equal(given[0][0], pool.images) and np.array_equal(given[0][1], pool.masks)


def test_own_models_make_the_anomalies(place: Place, tmp_path: Path) -> None:
    """A language model and an image model that are named, as for kka run; kept apart from the usual ones."""
    ensure_language_model(cell(arm="rep-1"), place.data, place.work)
    folder = tmp_path / "bank"
    folder.mkdir()
    texts = []
    for k in range(100):
        pixels = np.full((16, 16, 3), 2 * k, dtype=np.uint8)
        pixels[:, 8:] = 255
        Image.fromarray(pixels).save(folder / f"{k}.png")
        texts.append(json.dumps({"file_name": f"{k}.png", "text": f"a {NAMES[k % 10]} flower"}))
    (folder / "metadata.jsonl").write_text("\n".join(texts))
    own = (f"lm=hf:{place.work}/lm/tiny-smoke", f"images=bank:{folder}", "steer=none")
    plan = Plan(
        datasets=("tiny",), chosen=("3",), seeds=[0], scale="smoke", protocol="withheld", backbone="", loop=own
    )  # fmt: skip
    mine, alone = (plan.cell("tiny", "3", "sad", arm, 0) for arm in ("rep-1", "none"))
    assert mine.variant == ",".join(own) and alone.variant == ""
    task = open_cell_task(mine, place.data)
    pool = anomalies_of(mine, task, place).images
    assert pool is not None and all((image[:, 8:] == 255).all() for image in pool)  # of that bank
    usual = anomalies_of(cell(arm="rep-1"), task, place).images
    assert usual is not None and not any((image[:, 8:] == 255).all() for image in usual)
    with pytest.raises(UserError, match="unknown setting of the loop"):
        anomalies_of(dataclasses.replace(mine, variant="model=x"), task, place)
    specs = ("lm=hf:/m/a b", "lm=hf:/m/a_b", "lm=hf:" + "long/" * 60)
    names = {pools.pool_name(dataclasses.replace(mine, variant=spec)) for spec in specs}
    assert len(names) == 3 and max(map(len, names)) < 200  # two models never share a pool


def test_a_pool_goes_on_under_a_version_with_more_settings(place: Place, tmp_path: Path) -> None:
    """And where its folders have moved; its pictures are those of a pool that was never broken off."""
    given = cell(arm="rep-1", seed=4)
    task = open_cell_task(given, place.data)
    out = ensure_pool(given, task, place.data, place.work)
    whole = RunFolder(out).pool(1).images
    for path in (out / "rounds/1/images", out / "rounds/1/scores", out / "rounds/1/pool"):
        shutil.rmtree(path)
    for name in ("done", "rounds.json"):
        (out / name).unlink()
    stored = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(re.sub(r" *dpo_max_kl.*\n", "", stored))
    assert "dpo_max_kl" in stored and "dpo_max_kl" not in (out / "config.yaml").read_text()
    moved = tmp_path / "elsewhere"
    shutil.copytree(place.data, moved / "data")
    shutil.move(place.work, moved / "work")
    try:
        assert np.array_equal(RunFolder(ensure_pool(given, task, moved / "data", moved / "work")).pool(1).images, whole)
    finally:
        shutil.move(moved / "work", place.work)


def test_a_pool_of_other_data_is_refused(place: Place, tmp_path: Path) -> None:
    """The same name, task and settings over other files: its pictures are not of this data."""
    out = ensure_pool(cell(arm="rep-1"), open_cell_task(cell(), place.data), place.data, place.work)
    (tmp_path / "tiny").mkdir()
    rng = np.random.default_rng(1)
    _write(tmp_path / "tiny/train.parquet", rng, 18)
    _write(tmp_path / "tiny/test.parquet", rng, 5)
    with pytest.raises(UserError, match="made from other files"):
        ensure_pool(cell(arm="rep-1"), open_cell_task(cell(), tmp_path), tmp_path, place.work)
    assert (out / "done").is_file()


def test_what_is_set_aside_is_named(place: Place, tmp_path: Path) -> None:
    shutil.copytree(place.data / "tiny", tmp_path / "tiny")
    table = pq.read_table(tmp_path / "tiny/test.parquet").to_pylist()
    table[0]["image"]["bytes"] = b"no picture"
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "tiny/test.parquet")
    with pytest.warns(UserWarning, match=r"tiny 3: 1 picture set aside: .*1-0.png"):
        figures = compute(cell(), Place(data=tmp_path, work=place.work, backbone=BACKBONE))
    assert (figures.test_normals or 0) + (figures.test_anomalies or 0) == 49


def test_missing_data_says_what_to_do(tmp_path: Path, place: Place) -> None:
    """A newcomer's first error."""
    with pytest.raises(UserError, match="kka data prepare tiny --out"):
        open_cell_task(cell(), tmp_path)
    with pytest.raises(UserError, match="joined by"):
        classes("1++2")
    check_tasks([cell(), cell(normal="2")], place.data)
    with pytest.raises(UserError, match="no class is called '99'"):
        check_tasks([cell(), cell(normal="99")], place.data)


def test_figures_are_means_over_tasks() -> None:
    """Two seeds of one task and one of another: the tasks count alike, and gains are paired."""
    rows = [
        row(auroc=0.6), row(auroc=0.8, seed=1), row(auroc=0.9, normal="2"),
        row(auroc=0.7, arm="rep-0"), row(auroc=0.95, arm="rep-0", normal="2"), row(auroc=0.1, arm="rep-0", normal="9"),
    ]  # fmt: skip
    assert by_task(rows, "sad", "none") == {"1": {(0, 0): 60.0, (1, 0): 80.0}, "2": {(0, 0): 90.0}}
    mean, half = mean_over_tasks(rows, "sad", "none") or (0, 0)
    assert mean == pytest.approx(80) and half == pytest.approx(12.706 * 10, rel=1e-3)  # t(0.975, 1) * sd / sqrt(2)
    mean, _ = gain(rows, "sad", "rep-0", "none") or (0, 0)
    assert mean == pytest.approx((10 + 5) / 2)
    assert mean_over_tasks(rows, "ssd", "none") is None and as_text(None) == "–"
    assert as_text((71.26, 2.04)) == "71.3 ± 2.0" and as_text((1.2, None), signed=True) == "+1.2"
    assert tasks_and_seeds([row(), row(seed=1), row(normal="2")]) == "2 tasks × 1 to 2 seeds"


def test_the_estimate_learns_from_what_is_stored() -> None:
    """Seconds a cell, by what is most like it."""
    rows = [row(fit_seconds=8.0, score_seconds=2.0), row(fit_seconds=28.0, score_seconds=2.0, dataset="other")]
    assert runner.seconds_left([cell(scale="cpu"), cell(scale="cpu", dataset="third")], rows) == 10 + 20
    assert runner.seconds_left([cell(detector="ssd")], rows) == runner.FALLBACK_SECONDS["ssd"]


def test_the_estimate_has_the_pools_in_it() -> None:
    """Those of mode add part from rep's late. At scale full SAD costs by its epochs; of others nothing is known."""
    rows = [row(dataset="ucm_caption", fit_seconds=8.0, score_seconds=2.0)]
    cells = [cell(dataset="ucm_caption", scale="cpu", arm=arm) for arm in ("none", "rep-1", "add-1")]
    assert runner.estimate(cells, rows, cells[1:]) == 3 * 10 + 100 + 70
    full = [dataclasses.replace(c, scale="full") for c in cells]
    assert runner.estimate(full, rows, full[1:]) == 300 / 40 * 200
    assert runner.estimate([cell(scale="smoke")], rows, []) is None
    assert runner.estimate([cell(scale="full", detector="ssd")], rows, []) is None


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_every_experiment_gives_cells_and_a_table(name: str) -> None:
    """A table from no results at all, with the paper's column; and cells that all differ."""
    plan = Plan(datasets=tuple(DATASETS), seeds=[0, 1], scale="cpu", protocol="withheld", backbone="b")
    module = experiment(name)
    if module.table is None:  # pictures and curves, of no table
        assert module.draw is not None and module.cells(plan) == []
        return
    cells = module.cells(plan)
    assert len({c.id for c in cells}) == len(cells) > 10
    lines = module.table([], "cifar100")
    assert lines[0].startswith("|") and len(lines) > 5
    assert any("±" in line for line in lines) or name in ("figure4", "ablation", "hardness", "leading")
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize("name", ["figure3", "figure4", "figure5", "figure6"])
def test_every_figure_is_drawn(name: str, place: Place, tmp_path: Path) -> None:
    """A figure that was never drawn fails after the hours that its cells took."""
    plan = Plan(datasets=("tiny",), chosen=("3",), seeds=[0], scale="smoke", protocol="withheld", backbone="b")
    module = experiment(name)
    points = [(n, f"first-{n}") for n in (50, 100, 200, 400, 800)] + [(200, f"rep-{n}") for n in range(4)]
    points.append((300, "add-3"))
    rows = [row(dataset="oxford102", arm=arm, anomalies=n, auroc=0.5 + n / 4000) for n, arm in points]
    rows.append(row(dataset="oxford102", arm="first-50", anomalies=50, normal="2", auroc=0.1))  # of an unfinished task
    with mock.patch.dict(SCALES, {"smoke": QUICK_SCALE}):
        paths = module.draw(plan, place, rows, tmp_path)
    assert len(paths) == 1 and not list(tmp_path.glob(".*"))
    with Image.open(paths[0]) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert min(pixels.shape) > 300 and pixels.std() > 5
    if name == "figure4":
        assert "| 51.2 |" in module.table(rows, "oxford102")[2] and not module.draw(plan, place, [], tmp_path)
    if name == "figure6":
        curves = json.loads((tmp_path / "figure6-tiny.json").read_text())
        assert [len(c["losses"]) for c in curves.values()] == [3, 3] and all(c["auroc"] for c in curves.values())


def test_scales_fit_every_detector() -> None:
    """A setting that a detector does not have would show hours later."""
    place = Place(data=Path(), work=Path(), backbone=BACKBONE)
    built = 0
    for scale in SCALES:
        for name in DATASETS:
            for detector in table2.DETECTORS:
                build(cell(dataset=name, detector=detector, scale=scale), place)
                built += 1
    assert built == 3 * len(DATASETS) * 6


@pytest.mark.parametrize("seed", [0, 1])
def test_controls_are_those_of_a_run(place: Place, seed: int) -> None:
    """Noise and real images of one seed differed between a run and an experiment: two figures of one name."""
    task = open_cell_task(cell(), place.data)
    count = DATASETS["tiny"].initial
    made = arms(task, [Anomalies(images=np.zeros((count, *task.normals.shape[1:]), np.uint8))], seed=seed)
    own = {arm: given.images for arm in ("noise", "real") if (given := made[arm]())}
    for arm in ("noise", "real"):
        found = anomalies_of(cell(arm=arm, seed=seed), task, place).images
        assert found is not None and np.array_equal(found, own[arm])
    drawn = np.random.default_rng(derive_seed(seed, "controls"))
    assert np.array_equal(own["noise"], drawn.integers(0, 256, own["noise"].shape, dtype=np.uint8))


@pytest.mark.parametrize(
    ("given", "pool", "language"),
    [
        ({"dataset": "oxford102", "normal": "26", "arm": "rep-2"}, "oxford102-26-0-rep", "oxford102"),
        (
            {"dataset": "ucm_caption", "normal": "3+16", "arm": "add-3", "seed": 2, "protocol": "paper"},
            "ucm_caption-3+16-2-add-paper", "ucm_caption-3+16-paper",
        ),
        (
            {"normal": "coarse:trees", "arm": "first-50", "scale": "smoke", "variant": "initial=800,rounds=0"},
            "cifar100-coarse_trees-0-rep-smoke-initial=800,rounds=0", "cifar100-smoke",
        ),
        (
            {"normal": "5", "arm": "rep-3", "scale": "full", "variant": "lm=hf:Qwen/Qwen3-4B-Instruct-2507"},
            "cifar100-5-0-rep-full-lm=hf_Qwen_Qwen3-4B-Instruct-2507-0fc19e593e7b", "cifar100-single-full",
        ),
    ],
)  # fmt: skip
def test_names_of_pools_and_language_models(given: dict[str, Any], pool: str, language: str) -> None:
    """Under another name, what hours have made would be made again."""
    made = Cell(**{"dataset": "cifar100", "detector": "sad", "seed": 0, **given})
    assert pools.pool_name(made) == pool
    known = DATASETS[made.dataset]
    assert language_models.language_folder(made, known, Path("w")) == Path("w/lm") / language
