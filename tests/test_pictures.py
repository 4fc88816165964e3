"""Eq. 4: captions to pictures, from models and libraries made on the spot."""

import tracemalloc
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest

from kka.algorithm.pictures import Drawn, draw_pictures, fit_picture
from kka.common.cache import ImageCache, picture_key
from kka.errors import UserError
from kka.seeding import derive_seed


class Model:
    """Draws noise that depends on caption and seed; "black", "flat" and "faint" draw what shows nothing."""

    identity = "noise"

    def __init__(self, size: tuple[int, int] = (12, 12)) -> None:
        self.size = size
        self.asked: list[list[tuple[str, int]]] = []

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> np.ndarray:
        self.asked.append(list(zip(captions, seeds, strict=True)))
        return np.stack([self.one(c, s) for c, s in zip(captions, seeds, strict=True)])

    def one(self, caption: str, seed: int) -> np.ndarray:
        if caption in ("black", "flat"):
            return np.full((*self.size, 3), 0 if caption == "black" else (9, 200, 3), np.uint8)
        top = 3 if caption == "faint" else 256
        return np.random.default_rng(derive_seed(seed, caption)).integers(0, top, (*self.size, 3), np.uint8)


class Library(Model):
    """Six pictures, given in the order of their keys whatever the caption."""

    identity = "six"

    def retrieve(self, captions: Sequence[str], *, seeds: Sequence[int], taken: Collection[str]) -> list[str]:
        return [key for key in "abcdef" if key not in taken][: len(captions)]

    def fetch(self, keys: Sequence[str]) -> np.ndarray:
        self.asked.append([(key, 0) for key in keys])
        return np.stack([self.one("black" if key == "c" else key, 0) for key in keys])


def _drawn(model: Model, captions: Sequence[str], **options: object) -> Drawn:
    return draw_pictures(model, captions, seeds=range(len(captions)), **options)  # type: ignore[arg-type]


def test_each_picture_is_that_of_its_caption_and_seed() -> None:
    """A picture filed under another caption would teach the language model the wrong thing."""
    model, captions = Model(), [f"caption {i}" for i in range(7)]
    drawn = _drawn(model, captions, batch_size=3)
    assert [len(batch) for batch in model.asked] == [3, 3, 1]
    assert (drawn.kept, drawn.set_aside, drawn.drawn, drawn.from_cache) == (tuple(range(7)), (), 7, 0)
    for i, caption in enumerate(captions):
        np.testing.assert_array_equal(drawn.images[i], model.one(caption, i))
        assert drawn.keys[i] == picture_key("noise", caption, i)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_pictures_that_show_nothing_are_set_aside(batch_size: int) -> None:
    """A black picture from a safety filter would enter the pool as an anomaly."""
    model, captions = Model(), ["a", "black", "flat", "b", "faint", "c"]
    drawn = _drawn(model, captions, batch_size=batch_size)
    assert drawn.kept == (0, 3, 5)
    assert [(i, reason.split(":")[0]) for i, reason in drawn.set_aside] == [
        (1, "black"),
        (2, "constant"),
        (4, "black"),
    ]
    np.testing.assert_array_equal(drawn.images, [model.one(captions[i], i) for i in drawn.kept])
    assert drawn.keys == tuple(picture_key("noise", captions[i], i) for i in drawn.kept)
    assert drawn.drawn == 6


def test_nothing_is_drawn_twice(tmp_path: Path) -> None:
    """A resumed run would pay again for what it had, blanked pictures included."""
    cache, first, captions = ImageCache(tmp_path), Model(), ["a", "black", "b", "c"]
    once = _drawn(first, captions, cache=cache)
    again_model = Model()
    again = _drawn(again_model, [*captions, "d"], cache=cache)
    assert again_model.asked == [[("d", 4)]]
    assert (again.drawn, again.from_cache) == (1, 4)
    assert again.set_aside == once.set_aside
    np.testing.assert_array_equal(again.images[:3], once.images)
    assert again.keys[:3] == once.keys


def test_what_was_drawn_before_a_failure_is_kept(tmp_path: Path) -> None:
    """A run killed in a long drawing would begin it anew."""

    class Failing(Model):
        def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> np.ndarray:
            if len(self.asked) == 2:
                raise KeyboardInterrupt
            return super().draw(captions, seeds=seeds)

    cache = ImageCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        _drawn(Failing(), list("abcdef"), cache=cache, batch_size=2)
    after = _drawn(model := Model(), list("abcdef"), cache=cache, batch_size=2)
    assert model.asked == [[("e", 4), ("f", 5)]]
    np.testing.assert_array_equal(after.images, _drawn(Model(), list("abcdef")).images)


def test_one_caption_and_seed_twice_is_one_drawing() -> None:
    """Equal requests in one call would be paid twice."""
    model = Model()
    drawn = draw_pictures(model, ["a", "b", "a", "a"], seeds=[1, 1, 1, 2])
    assert model.asked == [[("a", 1), ("b", 1), ("a", 2)]]
    assert (drawn.drawn, drawn.kept) == (3, (0, 1, 2, 3))
    np.testing.assert_array_equal(drawn.images[0], drawn.images[2])
    assert not np.array_equal(drawn.images[0], drawn.images[3])


def test_cached_pictures_are_those_of_the_same_model(tmp_path: Path) -> None:
    """Another model, or other settings, would be answered with the pictures of the first."""
    cache, other = ImageCache(tmp_path), Model()
    _drawn(Model(), ["a"], cache=cache)
    other.identity = "noise, 20 steps"
    _drawn(other, ["a"], cache=cache)
    assert other.asked == [[("a", 0)]]


def test_a_library_gives_each_picture_once_and_is_not_cached(tmp_path: Path) -> None:
    """A retrieved picture would be copied to the disk, or given in two rounds."""
    library = Library()
    drawn = _drawn(library, ["w", "x"], taken={"a"}, cache=ImageCache(tmp_path), batch_size=1)
    assert (drawn.keys, drawn.kept) == (("b",), (0,))
    assert drawn.set_aside[0][0] == 1  # "c" is black
    assert library.asked == [[("b", 0)], [("c", 0)]]
    np.testing.assert_array_equal(drawn.images[0], library.one("b", 0))
    assert not list(tmp_path.iterdir())


def test_resizing_is_antialiased_and_keeps_proportions() -> None:
    """Drawn pictures would alias, or look squeezed beside the normals, which an evaluator tells at once."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 200
    small = fit_picture(stripes, (8, 8))
    assert abs(small[1:-1].astype(int) - 100).max() <= 2  # point sampling would give 0 or 200
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255  # the middle third, which is all that a square shows
    assert (fit_picture(wide, (10, 10)) == 255).all()
    assert (fit_picture(wide, (20, 20))[2:-2, 2:-2] == 255).all()
    assert (fit_picture(stripes, (64, 64)) == stripes).all()


def test_all_pictures_come_in_the_asked_size() -> None:
    """Pictures of another size than the normals could not be trained on together."""
    drawn = draw_pictures(Model((20, 30)), ["a", "b"], seeds=[1, 2], size=(8, 6))
    assert drawn.images.shape == (2, 8, 6, 3)


def test_a_model_can_name_its_batch() -> None:
    """A slow model would lose dozens of pictures when a run is killed, or overfill the memory."""
    model = Model()
    model.batch_size = 2  # type: ignore[attr-defined]
    _drawn(model, list("abcde"))
    assert [len(batch) for batch in model.asked] == [2, 2, 1]


def test_nothing_asked_nothing_drawn() -> None:
    """A round without captions would crash."""
    model = Model()
    assert draw_pictures(model, [], seeds=[]).images.shape == (0, 0, 0, 3)
    drawn = draw_pictures(model, [], seeds=[], size=(8, 6))
    assert (drawn.images.shape, drawn.kept, model.asked) == ((0, 8, 6, 3), (), [])


def test_progress_ends_with_all_pictures() -> None:
    """The progress bar would stop short, or run backwards."""
    seen: list[tuple[int, int]] = []
    _drawn(Model(), ["a", "b", "black"], batch_size=2, progress=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((1, 4, 4, 3), np.float32), r"got float32 of shape \(1, 4, 4, 3\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"got uint8 of shape \(2, 4, 4, 3\)"),
        (np.zeros((1, 4, 4), np.uint8), r"got uint8 of shape \(1, 4, 4\)"),
    ],
)
def test_a_model_that_breaks_the_contract_is_named(bad: np.ndarray, message: str) -> None:
    """Floats in [0, 1] would be cast to black pictures in silence."""

    class Bad(Model):
        def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> np.ndarray:
            return bad

    with pytest.raises(UserError, match="image model noise: expected uint8.*" + message):
        _drawn(Bad(), ["a"])


def test_wrong_arguments_say_what_was_expected() -> None:
    """A call with too few seeds would leave captions out in silence."""
    with pytest.raises(UserError, match="one for each of the 2 captions; got 1"):
        draw_pictures(Model(), ["a", "b"], seeds=[1])
    with pytest.raises(UserError, match="batch_size: expected 1 or more; got 0"):
        draw_pictures(Model(), ["a"], seeds=[1], batch_size=0)

    class Growing(Model):
        def one(self, caption: str, seed: int) -> np.ndarray:
            return np.random.default_rng(0).integers(0, 256, (4 + seed, 4, 3), np.uint8)

    with pytest.raises(UserError, match="size: expected one to resize to"):
        _drawn(Growing(), ["a", "b"], batch_size=1)


def test_memory_grows_with_the_batch_and_not_with_the_number() -> None:
    """A run with thousands of large drawings would not fit in memory."""
    peaks = []
    for number in (20, 200):
        model = Model((128, 128))
        tracemalloc.start()
        _drawn(model, [f"c{i}" for i in range(number)], size=(8, 8), batch_size=4)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300_000  # 180 more pictures: 9 MB as drawn, 35 kB as kept
