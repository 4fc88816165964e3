"""The garden's renderer and its image model."""

import colorsys
import tracemalloc

import numpy as np
import pytest

from kka.garden.palette import PETAL_RGB
from kka.garden.renderer import CHUNK, render
from kka.garden.vocabulary import PHRASES, Flower, fill
from kka.imaging.garden import GardenModel
from kka.protocols import ImageModel

PLAIN = dict(
    number="five", shape="rounded", color="red", texture="smooth", rows="single", pattern="plain", second="none",
    center_size="small", center_color="yellow", center_kind="disc", arrangement="single", leaves="none",
    background="dark", light="soft",
)  # fmt: skip


def _flowers(n: int, **fixed: str) -> list[Flower]:
    return [fill(fixed, np.random.default_rng([9, i])) for i in range(n)]


def test_equal_seeds_draw_equal_pictures_and_others_do_not() -> None:
    """The cache and resuming rest on it; and a seed without effect would make all normals alike."""
    flowers = _flowers(6)
    first = render(flowers, range(6))
    assert first.dtype == np.uint8 and first.shape == (6, 64, 64, 3)
    assert np.array_equal(first, render(flowers, range(6)))
    assert all((a != b).mean() > 0.5 for a, b in zip(first, render(flowers, range(6, 12)), strict=True))


def test_a_picture_does_not_depend_on_its_neighbors() -> None:
    """Image n of a draw depends on its own caption and seed only, bit for bit, at any place in any batch."""
    count = 2 * CHUNK + 3
    flowers, seeds = _flowers(count), list(range(100, 100 + count))
    batch = render(flowers, seeds)
    assert np.array_equal(render(flowers[::-1], seeds[::-1])[::-1], batch)
    for i in range(count):
        assert np.array_equal(render([flowers[i]], [seeds[i]])[0], batch[i]), f"picture {i}, {flowers[i]}"


def test_every_value_of_every_attribute_draws_and_changes_the_picture() -> None:
    """A value that the renderer ignores would make two different captions one picture."""
    checked = 0
    for attribute, values in PHRASES.items():
        flowers = []
        for value in (v for v in values if attribute != "second" or v != PLAIN["color"]):
            parts = {**PLAIN, attribute: value}
            if attribute == "second" and value != "none":
                parts["pattern"] = "base"
            if attribute == "pattern" and value != "plain":
                parts["second"] = "white"
            flowers.append(Flower(**parts))
        pictures = render(flowers, [4] * len(flowers)).astype(int)
        for i in range(len(flowers)):
            for j in range(i):
                assert np.abs(pictures[i] - pictures[j]).max() > 25, (attribute, flowers[i], flowers[j])
                checked += 1
    assert checked == sum(len(v) * (len(v) - 1) // 2 for v in PHRASES.values()) - 14 > 300


@pytest.mark.parametrize("color", [c for c in PETAL_RGB if c not in ("white", "cream")])
def test_the_stated_color_is_seen(color: str) -> None:
    """Petals take up most of a single bloom on a dark ground: the mean hue of its bright pixels is the caption's."""
    images = render([Flower(**{**PLAIN, "color": color, "shape": "rounded", "center_size": "small"})] * 8, range(8))
    pixels = images[:, 20:44, 20:44].reshape(-1, 3) / 255
    bright = pixels[pixels.max(axis=1) > 0.25]
    wanted = colorsys.rgb_to_hsv(*PETAL_RGB[color])[0]
    hues = np.array([colorsys.rgb_to_hsv(*p)[0] for p in bright])
    off = np.abs((hues - wanted + 0.5) % 1 - 0.5)
    assert np.median(off) < 0.05


def test_white_petals_are_bright_and_without_color() -> None:
    """The colors without a hue, which the test above cannot judge."""
    pixels = render([Flower(**{**PLAIN, "color": "white"})] * 8, range(8))[:, 20:44, 20:44].reshape(-1, 3) / 255
    bright = pixels[pixels.max(axis=1) > 0.4]
    assert len(bright) > 0.4 * len(pixels)
    assert np.median(bright.max(axis=1) - bright.min(axis=1)) < 0.12


@pytest.mark.parametrize(("word", "petals"), [("three", 3), ("five", 5), ("eight", 8)])
def test_the_stated_number_of_petals_is_drawn(word: str, petals: int) -> None:
    """Around the middle, at three quarters of the radius, brightness rises and falls once for each petal."""
    flower = Flower(**{**PLAIN, "number": word, "shape": "narrow", "color": "white", "center_size": "small"})
    hits = 0
    for image in render([flower] * 12, range(12)).astype(float).mean(axis=3):
        bright = image > 90
        y, x = (c.mean() for c in np.nonzero(bright))
        radius = 0.62 * np.sqrt(((np.argwhere(bright) - [y, x]) ** 2).sum(1)).max()
        angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
        ring = bright[(y + radius * np.sin(angle)).astype(int) % 64, (x + radius * np.cos(angle)).astype(int) % 64]
        hits += int((ring & ~np.roll(ring, 1)).sum() == petals)
    assert hits >= 6  # tilt and a blade of grass in front spoil some


def test_pictures_are_neither_flat_nor_burnt_out() -> None:
    """A black, white or constant picture would be set aside as a safety filter's output."""
    images = render(_flowers(100), range(100)).astype(float)
    assert images.std(axis=(1, 2, 3)).min() > 8
    assert 40 < images.mean() < 160
    assert (images == 255).mean() < 0.06 and images.mean(axis=(1, 2, 3)).min() > 4


def test_memory_does_not_grow_with_the_number_of_pictures() -> None:
    """Beyond the pictures themselves, drawing four chunks takes no more than drawing one."""
    peaks = []
    for count in (CHUNK, 4 * CHUNK):
        flowers = _flowers(count, arrangement="single")
        tracemalloc.start()
        images = render(flowers, range(count))
        peaks.append(tracemalloc.get_traced_memory()[1] - images.nbytes)
        tracemalloc.stop()
    assert peaks[1] < 1.15 * peaks[0]


def test_the_image_model_draws_captions_and_counts_unknown_words() -> None:
    """Equation 4 in the garden: the protocol, the seed, the words that were left out."""
    model = GardenModel()
    assert isinstance(model, ImageModel) and model.identity.startswith("garden")
    captions = ["a red flower with five petals", "a quaint blue flower", "nothing botanical"]
    images = model.draw(captions, seeds=[1, 2, 3])
    assert images.shape == (3, 64, 64, 3)
    assert model.ignored_words == 3
    assert np.array_equal(GardenModel().draw(captions[1:2], seeds=[2])[0], images[1])
    assert not np.array_equal(GardenModel().draw(captions[1:2], seeds=[4])[0], images[1])
    with pytest.raises(ValueError, match="seeds: expected one for each of the 3 captions"):
        model.draw(captions, seeds=[1])


def test_no_captions_draw_no_pictures() -> None:
    """A round in which every caption was a duplicate asks for nothing."""
    assert GardenModel().draw([], seeds=[]).shape == (0, 64, 64, 3)
