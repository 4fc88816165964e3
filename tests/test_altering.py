"""Normals that are altered: which one, its mask, what is fit to train with, and the way through a run."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes import FAST, outcome, run_fake, small_task
from kka.algorithm.altering import alter_pictures, choose_normals, members_of_prompts
from kka.algorithm.evaluator import ConfusionEvaluator
from kka.algorithm.fitness import REASONS, VISIBLE, difference, too_typical, unfit
from kka.algorithm.folder import RunFolder
from kka.algorithm.pool import AnomalyPool, Lineage, read_lineage
from kka.algorithm.records import Representative
from kka.algorithm.traces import leave_traces
from kka.common.cache import ImageCache
from kka.common.store import Store
from kka.config import RunConfig
from kka.deploy.anomalies import Anomalies, altered_copies
from kka.errors import UserError
from kka.protocols import Altered, Alters, Images, LeavesTraces
from kka.report.altered import OUTLINE, outlined
from kka.settings.filters import ALL
from kka.task import Task


class Squares:
    """Puts a square of the caption's brightness on a normal; the seed says where."""

    identity = "squares/1"

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def alter(self, normals: Images, captions: Sequence[str], *, seeds: Sequence[int]) -> Altered:
        images, masks = normals.copy(), np.zeros(normals.shape[:3], np.uint8)
        for i, (caption, seed) in enumerate(zip(captions, seeds, strict=True)):
            self.asked.append((caption, seed))
            rng = np.random.default_rng(seed)
            top, left = rng.integers(0, normals.shape[1] - 4, 2)
            images[i, top : top + 4, left : left + 4] = len(caption) * 7 % 256
            masks[i, top : top + 4, left : left + 4] = 255
        return Altered(images=images, masks=masks)

    def reads(self, caption: str) -> bool:
        return "red" not in caption


class Faint(Squares):
    """Every second defect does not show."""

    identity = "faint/1"

    def alter(self, normals: Images, captions: Sequence[str], *, seeds: Sequence[int]) -> Altered:
        made = super().alter(normals, captions, seeds=seeds)
        for i, seed in enumerate(seeds):
            if seed % 2:
                made.images[i] = normals[i]
        return made


def untested() -> Task:
    """One detector alone is trained then."""
    return small_task(test=False)


def photos(n: int, size: int = 12) -> Images:
    return np.random.default_rng(0).integers(60, 200, (n, size, size, 3), dtype=np.uint8)


# --- which normal --------------------------------------------------------------------------------------------------


def test_a_caption_alters_a_normal_of_its_prompts_cluster() -> None:
    """A scratch on a bracket seen from above would be asked for by the bracket seen from the side."""
    clusters = np.array([0, 1, 1, 0, 2, 1])
    rows = [
        Representative(normal=3, caption="a", prompt="of 0"),
        Representative(normal=1, caption="b", prompt="of 1 and 2"),
        Representative(normal=4, caption="c", prompt="of 1 and 2"),
    ]
    members = members_of_prompts(rows, clusters)
    assert {prompt: found.tolist() for prompt, found in members.items()} == {
        "of 0": [0, 3], "of 1 and 2": [1, 2, 4, 5],
    }  # fmt: skip
    prompts = ["of 0", "of 1 and 2", "a hard one's"] * 60
    chosen = choose_normals(prompts, members, 6, seeds=range(180))
    assert set(chosen[::3]) == {0, 3} and set(chosen[1::3]) == {1, 2, 4, 5} and set(chosen[2::3]) == set(range(6))
    assert chosen == choose_normals(prompts, members, 6, seeds=range(180))


# --- the pictures --------------------------------------------------------------------------------------------------


def test_what_lies_in_the_cache_is_not_painted_again(tmp_path: Path) -> None:
    """Content of the normal, caption, seed and model: one of them left out, and another's picture is taken."""
    normals, captions = photos(5), [f"{'x' * i} mark" for i in range(5)]
    first, cache = Squares(), ImageCache(tmp_path)
    fresh = alter_pictures(first, normals, captions, seeds=range(5))
    stored = alter_pictures(first, normals, captions, seeds=range(5), cache=cache)
    again = Squares()
    found = alter_pictures(again, normals, captions, seeds=range(5), cache=cache)
    assert not again.asked and found.made == 0 and stored.made == fresh.made == 5
    for other in (stored, found):
        assert np.array_equal(other.images, fresh.images) and np.array_equal(other.masks, fresh.masks)
        assert other.keys == fresh.keys
    moved = normals.copy()
    moved[2, 0, 0, 0] ^= 1
    for changed in (
        alter_pictures(again, moved, captions, seeds=range(5), cache=cache),
        alter_pictures(again, normals, [*captions[:2], "another", *captions[3:]], seeds=range(5), cache=cache),
        alter_pictures(again, normals, captions, seeds=[0, 1, 9, 3, 4], cache=cache),
    ):
        assert changed.made == 1 and [a == b for a, b in zip(changed.keys, fresh.keys, strict=True)].count(False) == 1
    assert alter_pictures(Faint(), normals, captions, seeds=range(5), cache=cache).made == 5


def test_a_mask_that_is_gone_is_made_anew(tmp_path: Path) -> None:
    """A picture without its mask would be one whose every pixel is normal."""
    normals, cache = photos(1), ImageCache(tmp_path)
    whole = alter_pictures(Squares(), normals, ["mark"], seeds=[1], cache=cache)
    for file in tmp_path.rglob("*.png"):
        if file != cache.path(whole.keys[0]):
            file.unlink()
    again = alter_pictures(Squares(), normals, ["mark"], seeds=[1], cache=cache)
    assert again.made == 1 and np.array_equal(again.masks, whole.masks)


@pytest.mark.parametrize(("images", "masks"), [((3, 9, 12, 3), (3, 12, 12)), ((3, 12, 12, 3), (3, 12, 9))])
def test_a_model_of_another_size_is_named(images: tuple[int, ...], masks: tuple[int, ...]) -> None:
    class Odd(Squares):
        def alter(self, normals: Images, captions: Sequence[str], *, seeds: Sequence[int]) -> Altered:
            return Altered(images=np.zeros(images, np.uint8), masks=np.zeros(masks, np.uint8))

    with pytest.raises(UserError, match=r"squares/1: expected uint8 (pictures|masks) of shape"):
        alter_pictures(Odd(), photos(3), ["a"] * 3, seeds=range(3))


# --- what is fit ---------------------------------------------------------------------------------------------------


def squares(values: Sequence[int], at: Sequence[int]) -> tuple[Images, Images, np.ndarray]:
    """Grey normals, the same with squares of these values in these columns, and the masks."""
    normals = np.full((len(values), 12, 12, 3), 100, np.uint8)
    images, masks = normals.copy(), np.zeros((len(values), 12, 12), np.uint8)
    for i, (value, left) in enumerate(zip(values, at, strict=True)):
        images[i, :4, left : left + 4] = value
        masks[i, :4, left : left + 4] = 255
    return normals, images, masks


def test_each_filter() -> None:
    """A defect that is not there teaches that normals are anomalous; one seen twice counts double."""
    normals, images, masks = squares([160, 160, 160, 101, 100, 160, 130], [0, 0, 8, 0, 0, 0, 0])
    images[5, 11, 11] += 1
    of = [7, 7, 7, 7, 7, 7, 7]
    assert unfit(normals, images, masks, of, ALL) == {
        1: REASONS["duplicate"], 3: REASONS["visible"], 4: REASONS["visible"], 5: REASONS["outside"],
    }  # fmt: skip
    assert unfit(normals, images, masks, range(7), ALL).keys() == {3, 4, 5}  # of other normals: no duplicates
    assert unfit(normals, images, masks, of, ("outside",)) == {5: REASONS["outside"]}
    assert unfit(normals, images, masks, of, ()) == {}


def test_the_difference_is_that_of_the_mask() -> None:
    """A hairline on a large photo changes the mean of all pixels by nothing."""
    normals, images, masks = squares([110], [2])
    assert difference(normals[0], images[0], masks[0]) == pytest.approx(10)
    images[0, :4, 2:6] = (100, 100, 103)
    assert difference(normals[0], images[0], masks[0]) == pytest.approx(3) and VISIBLE < 3
    masks[0, :2, 2:6] = 51  # a fifth: that half of the square counts a sixth of the whole
    images[0, :2, 2:6] = 106
    assert difference(normals[0], images[0], masks[0]) == pytest.approx((6 * 0.2 + 3) / 1.2)
    assert difference(normals[0], images[0], np.zeros((12, 12), np.uint8)) == 0.0
    everything = np.full((12, 12), 255, np.uint8)
    assert unfit(normals, 255 - normals, everything[None], [0], ALL) == {}


def test_what_looks_normal_is_known_by_the_normals() -> None:
    """A tenth of the normals lie nearer: the limit of two networks is the mean of theirs."""
    evaluator = ConfusionEvaluator(
        networks=(), normal_distances=(np.arange(1.0, 12), 4 * np.arange(1.0, 12)), quantile=0.5
    )
    # the tenth lies at 2 of a median of 6, in both networks
    assert too_typical(evaluator, np.array([0.1, 0.33, 0.34, 1.0])).tolist() == [True, True, False, False]


# --- the pool ------------------------------------------------------------------------------------------------------


def altered_pool(n: int, seed: int = 0) -> AnomalyPool:
    rng = np.random.default_rng(seed)
    entries = tuple(
        Lineage(
            id=f"r0-{i}", round=0, prompt="p", caption=f"c{i}", seed=i, language_model="l", image_model="m",
            key=str(i), normal=i + 3, history=((1, 0.5 + i),),
        )
        for i in range(n)
    )  # fmt: skip
    return AnomalyPool(
        entries, rng.integers(0, 256, (n, 6, 5, 3), dtype=np.uint8), rng.integers(0, 256, (n, 6, 5), dtype=np.uint8)
    )


def test_a_pool_keeps_masks_and_normals(tmp_path: Path) -> None:
    """A mask of another picture would teach the detector that normal pixels are anomalous."""
    pool = altered_pool(4)
    pool.save(tmp_path / "p.parquet")
    back = AnomalyPool.load(tmp_path / "p.parquet")
    assert back.entries == pool.entries == read_lineage(tmp_path / "p.parquet")
    assert back.masks is not None and pool.masks is not None and np.array_equal(back.masks, pool.masks)
    some = back.take([2, 0])
    assert some.masks is not None and np.array_equal(some.masks, pool.masks[[2, 0]])
    both = some.joined(altered_pool(1, seed=1))
    assert both.masks is not None and both.masks.shape == (3, 6, 5) and np.array_equal(both.masks[:2], some.masks)
    assert back.judged(2, [1.0] * 4).masks is back.masks
    changed = pool.with_replaced(altered_pool(2, seed=1), 2, max_hard_share=1.0, seed=0)
    assert changed.masks is not None and len(changed.masks) == len(changed) == 4
    plain = AnomalyPool(pool.entries, pool.images)
    assert plain.joined(plain).masks is None


def test_the_datasets_library_reads_the_masks(tmp_path: Path) -> None:
    """The file says that both columns are pictures."""
    import pyarrow.parquet as pq

    altered_pool(2).save(tmp_path / "p.parquet")
    stored = json.loads(pq.read_schema(tmp_path / "p.parquet").metadata[b"huggingface"])
    assert stored == {"info": {"features": {"image": {"_type": "Image"}, "mask": {"_type": "Image"}}}}


def test_held_out_normals_that_were_altered_are_known() -> None:
    """One that training calls anomalous, but for a scratch, would set the threshold too high."""
    normals = photos(6)
    made = Squares().alter(normals, [f"{'x' * i} mark" for i in range(6)], seeds=range(6))
    given = Anomalies(images=made.images, masks=made.masks)
    assert altered_copies(given, normals[[1, 4]]).tolist() == [False, True, False, False, True, False]
    everywhere = Anomalies(images=made.images, masks=np.full_like(made.masks, 255))
    assert not altered_copies(everywhere, normals).any()
    assert not altered_copies(Anomalies(images=made.images), normals).any()
    assert not altered_copies(given, photos(2, size=9)).any()


# --- a run ---------------------------------------------------------------------------------------------------------


def test_a_run_that_alters(tmp_path: Path) -> None:
    """Each picture is its normal but for its mask; what the masks are reaches the end of the run."""
    assert isinstance(Squares(), Alters)
    summary = run_fake(FAST, tmp_path / "run", images=Squares, task=untested, report=True)
    made, task = RunFolder(tmp_path / "run"), small_task()
    assert [r["generated"] + r["set_aside"] for r in summary["rounds"]] == [24, 16, 16]
    for number in range(3):
        fresh = made.fresh(number)
        normals = made.altered_normals(number)
        assert fresh.masks is not None and len(fresh) > 8
        assert sorted(normals) == sorted({entry.normal for entry in fresh.entries})
        for image, mask, entry in zip(fresh.images, fresh.masks, fresh.entries, strict=True):
            assert entry.normal is not None
            normal = normals[entry.normal]
            assert np.array_equal(normal, task.normals[entry.normal])
            assert np.array_equal(image[mask == 0], normal[mask == 0]) and (image != normal).any()
        chosen, clusters = made.representatives(), made.clusters()
        by_prompt = members_of_prompts(chosen, clusters)
        assert all(entry.normal in by_prompt[entry.prompt] for entry in fresh.entries)
    pool = AnomalyPool.load(tmp_path / "run" / "pool.parquet")
    assert pool.masks is not None and len({entry.normal for entry in pool.entries}) > 4
    unread = json.loads((tmp_path / "run/rounds/0/images/stage.json").read_text())["unread_captions"]
    assert unread == sum("red" in written.caption for written in made.captions(0))
    judged = tmp_path / "run/rounds/1/evaluator/scores.jsonl"
    judged.write_text("".join(judged.read_text().splitlines(keepends=True)[1:]))  # as where a picture was vetoed
    hard = made.hard(0)
    assert hard is not None and len(hard) == len(made.fresh(0)) and not hard[0]
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    for gallery in page.split('<div class="sides">')[1:]:
        assert gallery.split("</section>")[0].split('<div class="sides">')[0].count('<li tabindex="-1"') >= 8
    shown = re.findall(r'<li tabindex="-1"[^>]*>(.*?)</li>', page.split('<ul class="pictures altered">', 1)[1], re.S)
    assert len(shown) > 12 and all(item.count("<img") == 3 for item in shown)


def test_the_outline_lies_around_the_defect() -> None:
    """A line over a hairline crack would hide it."""
    image, mask = photos(1)[0], np.zeros((12, 12), np.uint8)
    mask[4:8, 5] = 30
    shown = outlined(image, mask)
    line = (shown == OUTLINE).all(axis=2)
    assert np.array_equal(shown[~line], image[~line]) and not line[mask > 0].any()
    assert line[3, 5] and line[8, 5] and line[4:8, 4].all() and line[4:8, 6].all() and line.sum() == 10


def test_resumed_as_uninterrupted(tmp_path: Path) -> None:
    """The normals and masks of the rounds before are read back, not drawn again."""
    quick = replace(FAST, rounds=1, initial=12, fresh=8)
    run_fake(quick, tmp_path / "whole", images=Squares, task=untested)
    run_fake(replace(quick, rounds=0), tmp_path / "parts", images=Squares, task=untested)
    run_fake(quick, tmp_path / "parts", resume=True, images=Squares, task=untested)
    whole, parts = outcome(tmp_path / "whole"), outcome(tmp_path / "parts")
    names = [name for name in whole if name.startswith("rounds/")]
    assert len(names) > 12 and all(whole[name] == parts[name] for name in names)


def test_what_does_not_show_is_counted_and_named(tmp_path: Path) -> None:
    summary = run_fake(replace(FAST, rounds=0), tmp_path / "run", images=Faint, task=untested)
    aside = RunFolder(tmp_path / "run").set_aside(0)
    assert summary["rounds"][0]["set_aside"] == len(aside) > 3
    assert {row.reason for row in aside} <= set(REASONS.values()) and REASONS["visible"] in {r.reason for r in aside}
    with pytest.warns(UserWarning, match="anomalies are copies of"):
        kept = run_fake(replace(FAST, rounds=0, filters=()), tmp_path / "all", images=Faint, task=untested)
    assert kept["rounds"][0]["set_aside"] == 0 and kept["rounds"][0]["generated"] == 24


def test_nothing_that_shows_ends_the_run_in_words(tmp_path: Path) -> None:
    class Nothing(Squares):
        identity = "nothing/1"

        def alter(self, normals: Images, captions: Sequence[str], *, seeds: Sequence[int]) -> Altered:
            return Altered(images=normals.copy(), masks=np.zeros(normals.shape[:3], np.uint8))

    with pytest.raises(UserError, match=r"all 24 pictures of round 0 were set aside \(24: its defect does not show\)"):
        run_fake(FAST, tmp_path / "run", images=Nothing)


def test_the_language_model_of_examples_alters_any_normal(tmp_path: Path) -> None:
    """Its prompts show hard captions, of no cluster."""
    quick = replace(FAST, steer="examples", rounds=1, initial=12)
    run_fake(quick, tmp_path / "run", images=Squares, task=untested)
    later = RunFolder(tmp_path / "run").fresh(1)
    assert len({entry.normal for entry in later.entries}) > 4


# --- the control `traces` ------------------------------------------------------------------------------------------


class Dim(Squares):
    """A network that gives photos back a little darker."""

    identity = "dim/1"

    def traces(self, normals: Images, masks: np.ndarray) -> Images:
        return normals - (masks[..., None] > 0).astype(np.uint8)


def test_traces_are_the_pools_normals_altered_by_nothing(tmp_path: Path) -> None:
    """The control would differ from the anomalies in more than the defect: other normals, places, edges."""
    quick = replace(FAST, rounds=0, initial=12)
    run_fake(quick, tmp_path / "run", images=Squares, task=untested)
    made, task = RunFolder(tmp_path / "run"), small_task()
    pool = made.fresh(0)
    with Store(tmp_path / "control", RunConfig().as_dict()) as store:
        leave_traces(task, Dim(), pool, store=store)
        drawn_whole = AnomalyPool(pool.entries, pool.images)
        with pytest.raises(UserError, match="expected pictures that are altered normals, with masks"):
            leave_traces(task, Dim(), drawn_whole, store=store)
    traces = RunFolder(tmp_path / "control").traces()
    assert len(traces) == len(pool) and traces.masks is not None
    assert [entry.normal for entry in traces.entries] == [entry.normal for entry in pool.entries]
    assert pool.masks is not None and np.array_equal(traces.masks, pool.masks)
    for image, mask, entry in zip(traces.images, traces.masks, traces.entries, strict=True):
        normal = task.normals[entry.normal or 0]
        assert np.array_equal(image[mask == 0], normal[mask == 0]) and (image != normal)[mask > 0].all()
        assert entry.caption == task.captions[entry.normal or 0] and not entry.prompt
    assert isinstance(Dim(), LeavesTraces) and not isinstance(Squares(), LeavesTraces)
