"""The garden's tasks: sizes, grades, seeds kept apart, withheld kinds."""

from collections import Counter

import numpy as np
import pytest

from kka.data.garden import load_garden
from kka.errors import UserError
from kka.garden import tasks
from kka.garden.grammar import parse
from kka.garden.tasks import GRADES, NORMALS, SPECIES, anomaly_kinds, image_seeds, vary, withheld_kinds
from kka.task import Task


@pytest.fixture(scope="module")
def task() -> Task:
    return load_garden(None, 0.5, 0)


def test_sizes_are_as_promised(task: Task) -> None:
    """200 training normals with captions; 1,000 test images: 400 normal and 30 of each of 20 kinds."""
    assert task.test is not None and task.knowledge is not None
    assert task.normals.shape == (200, 64, 64, 3) and len(task.captions) == 200
    assert task.test.images.shape == (1000, 64, 64, 3)
    counts = Counter(task.test.kinds)
    assert counts.pop("windflower") == 400
    assert set(counts.values()) == {30} and len(counts) == 20
    assert np.array_equal(task.test.is_anomaly, np.array(task.test.kinds) != "windflower")
    assert task.name == "garden-windflower" and task.domain == "flowers" and task.source == "garden"


def test_half_of_the_kinds_are_withheld_evenly_over_the_grades(task: Task) -> None:
    """An unseen kind in the knowledge would be a leak; withholding only far kinds would make unseen easy."""
    assert task.test is not None and task.knowledge is not None and task.test.seen is not None
    withheld = set(map(str, task.details["withheld"]))  # type: ignore[call-overload]
    assert len(withheld) == 10
    assert set(Counter(name.rsplit("-", 1)[0] for name in withheld).values()) <= {2, 3}
    assert not withheld & set(task.knowledge.kinds)
    assert len(task.knowledge.images) == len(task.knowledge.captions) == 10 * 20
    assert np.array_equal(task.test.seen, [kind not in withheld for kind in task.test.kinds])


def test_no_picture_is_in_two_splits(task: Task) -> None:
    """Training, test and knowledge have seeds of their own, and so have the pictures that a run draws."""
    assert task.test is not None and task.knowledge is not None
    splits = [set(image_seeds(0, "windflower", split, 1000)) for split in ("train", "test", "knowledge")]
    assert len(set.union(*splits)) == 3000
    assert min(min(s) for s in splits) >= 2**32 > 2**31
    pixels = [{p.tobytes() for p in part} for part in (task.normals, task.test.images, task.knowledge.images)]
    assert len(set.union(*pixels)) == 200 + 1000 + 200


def test_a_task_repeats_and_follows_its_seed(task: Task) -> None:
    """Equal seeds must give equal tasks in another process; other seeds other pictures and withheld kinds."""
    again = load_garden("windflower", 0.5, 0)
    assert again.test is not None and task.test is not None
    assert np.array_equal(again.normals, task.normals) and again.captions == task.captions
    assert np.array_equal(again.test.images, task.test.images) and again.details == task.details
    kinds = anomaly_kinds(NORMALS["windflower"])
    assert len({withheld_kinds(kinds, 0.5, seed) for seed in range(4)}) == 4
    assert not set(image_seeds(0, "windflower", "test", 1000)) & set(image_seeds(1, "windflower", "test", 1000))


def test_without_unseen_all_kinds_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random-real-images arm takes 20 images of each of the 20 kinds; there is no seen/unseen split."""
    monkeypatch.setattr(tasks, "render", lambda flowers, seeds: np.zeros((len(flowers), 64, 64, 3), np.uint8))
    task = load_garden("daisy", 0.0, 2)
    assert task.test is not None and task.knowledge is not None
    assert task.test.seen is None and set(Counter(task.knowledge.kinds).values()) == {20}
    assert len(task.knowledge.images) == 400


@pytest.mark.parametrize("name", NORMALS)
def test_kinds_differ_in_as_many_attributes_as_their_grade_says(name: str) -> None:
    """The grades are what the garden's difficulty rests on; and no two kinds may be the same."""
    normal, kinds = NORMALS[name], anomaly_kinds(NORMALS[name])
    assert kinds == anomaly_kinds(normal)
    assert Counter(k.grade for k in kinds) == dict.fromkeys(GRADES, 5)
    species = {
        tuple(kind.allowed[a] for a in (*SPECIES, "center_kind")) + kind.allowed.get("second", ()) for kind in kinds
    }
    assert len(species) == 20
    for kind in kinds:
        differing = {a for a in SPECIES if not set(kind.allowed[a]) & set(normal.allowed[a])}
        assert differing == set(kind.changed) and len(differing) == GRADES[kind.grade]
        assert all(kind.allowed[a] == normal.allowed[a] for a in SPECIES if a not in differing)
        flower = kind.draw(np.random.default_rng(0))
        assert all(getattr(flower, a) in values for a, values in kind.allowed.items())


def test_the_captions_of_a_task_tell_of_its_kind(task: Task) -> None:
    """The prompt is made of them: a caption that speaks of another flower would mislead the language model."""
    normal = NORMALS["windflower"]
    for caption in task.captions:
        found, ignored = parse(caption)
        assert ignored == 0
        assert all(value in normal.allowed[a] for a, value in found.items() if a in normal.allowed)
    assert len(set(task.captions)) > 150


def test_vary_changes_just_so_many_attributes() -> None:
    """The corpus's near neighbors are made with it."""
    rng = np.random.default_rng(0)
    for changes in (1, 2, 4):
        flower = NORMALS["pansy"].draw(rng)
        other = vary(flower, changes, rng)
        assert sum(getattr(flower, a) != getattr(other, a) for a in SPECIES) == changes


def test_unseen_shares_are_exact() -> None:
    """A quarter of twenty kinds is five, with at least one of each grade."""
    kinds = anomaly_kinds(NORMALS["pansy"])
    withheld = withheld_kinds(kinds, 0.25, 3)
    assert len(withheld) == 5 and {n.rsplit("-", 1)[0] for n in withheld} == set(GRADES)


def test_user_mistakes_are_named() -> None:
    """An unknown kind lists the known ones; an impossible share says what is possible."""
    with pytest.raises(UserError, match=r"unknown normal kind of the garden: .*daisy.*got 'tulip'"):
        load_garden("tulip", 0.0, 0)
    with pytest.raises(UserError, match="unseen: expected a share"):
        load_garden(None, 1.0, 0)
