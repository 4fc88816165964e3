"""`paint`: defects on photos of normals, by words, with their masks."""

import numpy as np
import pytest

from kka.defects.vocabulary import FAMILIES
from kka.errors import UserError
from kka.imaging.paint.foreground import foreground
from kka.imaging.paint.painter import MOST, PAINTERS, Paint
from kka.imaging.paint.plan import marks
from kka.imaging.paint.scene import open_scene
from kka.protocols import Alters, IgnoresWords

SIDE = 64
NOUNS = {name: (family.nouns or family.masses)[0] for name, family in FAMILIES.items()}


def plate(side: int = SIDE, seed: int = 0) -> np.ndarray:
    """A grey surface that fills the photo: grain, and stripes."""
    rng = np.random.default_rng(seed)
    stripes = 12 * np.sin(np.arange(side) * 40 / side)[None, :]
    grey = np.clip(120 + stripes + rng.normal(0, 4, (side, side)), 0, 255)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def disc(side: int = SIDE, seed: int = 0) -> np.ndarray:
    """An orange disc with a spoke, on green."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    photo = np.empty((side, side, 3))
    photo[:] = (40, 90, 50)
    photo[x**2 + y**2 < (0.33 * side) ** 2] = (220, 130, 50)
    photo[(np.abs(x) < side / 32) & (y**2 < (0.25 * side) ** 2)] = (120, 50, 30)
    return np.clip(photo + rng.normal(0, 3, photo.shape), 0, 255).astype(np.uint8)


PHOTOS = {"plate": plate(), "disc": disc()}


def paint(photo: np.ndarray, caption: str, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """One picture and its mask."""
    altered = Paint().alter(photo[None], [caption], seeds=[seed])
    return altered.images[0], altered.masks[0]


def change(picture: np.ndarray, photo: np.ndarray, mask: np.ndarray) -> float:
    """Mean difference in grey levels, where the mask is."""
    return float((np.abs(picture.astype(float) - photo).mean(2) * mask).sum() / mask.sum())


def middle(mask: np.ndarray) -> tuple[float, float]:
    """Its centre (x, y), as shares of the sides."""
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    return float((x * mask.astype(float)).sum() / mask.sum() / mask.shape[1]), float(
        (y * mask.astype(float)).sum() / mask.sum() / mask.shape[0]
    )


@pytest.mark.parametrize("kind", PHOTOS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family: str, kind: str) -> None:
    """A defect that nobody sees, one that is more faint when called obvious, or one that changes what is not marked."""
    assert {*PAINTERS} == {*FAMILIES}
    photo = PHOTOS[kind]
    before = photo.copy()
    changes = []
    for strength in ("faint", "obvious"):
        picture, mask = paint(photo, f"a {strength} {NOUNS[family]}")
        assert picture.shape == photo.shape and picture.dtype == np.uint8
        assert mask.shape == photo.shape[:2] and mask.dtype == np.uint8
        assert (mask > 0).any() and (mask > 128).mean() < 0.95
        np.testing.assert_array_equal(picture[mask == 0], photo[mask == 0])
        changes.append(change(picture, photo, mask))
    assert changes[0] > 1.5
    assert changes[1] > 4
    assert changes[1] > 0.9 * changes[0]
    np.testing.assert_array_equal(photo, before)


def test_the_same_to_the_last_bit() -> None:
    """A resumed run would go on with other pictures; a picture would depend on those beside it."""
    photos = np.stack([plate(), disc(), plate(seed=1), disc(seed=1)])
    captions = ["two long scratches", "a chip", "the part is missing", "nothing that is known"]
    first = Paint().alter(photos, captions, seeds=[1, 2, 3, 4])
    again = Paint()
    for i in (2, 0, 3, 1):
        alone = again.alter(photos[i : i + 1], [captions[i]], seeds=[i + 1])
        np.testing.assert_array_equal(alone.images[0], first.images[i])
        np.testing.assert_array_equal(alone.masks[0], first.masks[i])
    other = Paint().alter(photos[:1], captions[:1], seeds=[5])
    assert (other.masks[0] != first.masks[0]).any()


@pytest.mark.parametrize("place", ["top left", "top right", "bottom left", "bottom right", "center"])
def test_where(place: str) -> None:
    """ "near the top" would mean nothing."""
    wanted = {"top": 0.25, "bottom": 0.75, "left": 0.25, "right": 0.75, "center": 0.5}
    x, y = [], []
    for seed in range(4):
        _, mask = paint(plate(), f"a small stain in the {place}", seed)
        at = middle(mask)
        x.append(at[0])
        y.append(at[1])
    assert abs(np.mean(y) - wanted[place.split()[0]]) < 0.2
    assert abs(np.mean(x) - wanted[place.split()[-1]]) < 0.2


def test_how_large_how_many_which_way_and_which_color() -> None:
    """A caption's attributes would be words only."""
    areas = [(paint(plate(), f"a {size} stain")[1] > 128).sum() for size in ("tiny", "medium", "huge")]
    assert 0 < areas[0] < 0.3 * areas[1] < 0.5 * areas[2]
    one, many = (paint(plate(128), f"{number} tiny stain{s}", 3)[1] for number, s in (("one", ""), ("many", "s")))
    assert (many > 64).sum() > 4 * (one > 64).sum()
    for direction, axis in (("horizontal", 1), ("vertical", 0)):
        mask = paint(plate(), f"a long {direction} scratch")[1] > 40
        spans = [np.ptp(np.nonzero(mask)[a]) for a in (0, 1)]
        assert spans[axis] > 2 * spans[1 - axis]
    stained = [paint(disc(), f"a large obvious {color} stain", 2) for color in ("red", "green", "blue")]
    shares = np.array([picture[mask > 200].mean(0) / picture[mask > 200].mean() for picture, mask in stained])
    assert shares.argmax(axis=0).tolist() == [0, 1, 2]  # the red one is the reddest of the three, …
    thin, wide = ((paint(plate(128), f"a {width} long crack")[1] > 100).sum() for width in ("hairline", "wide"))
    assert wide > 2 * thin


@pytest.mark.parametrize("kind", PHOTOS)
@pytest.mark.parametrize("family", ["pit", "stain", "scratch"])
def test_together_apart_and_in_a_row(family: str, kind: str) -> None:
    """Several marks that run off the object would be one or two; a cluster all over the photo would be none."""
    scene = open_scene(PHOTOS[kind], 0.0)
    far = {}
    for spread in ("clustered", "row", "scattered"):
        nearest, mean = [], []
        for seed in range(8):
            found = marks(family, {"number": "five", "size": "small", "spread": spread}, scene, seed, 1)
            at = np.array([(mark.x, mark.y) for mark in found])
            x, y = np.round(at).astype(int).clip(0, SIDE - 1).T
            assert len(at) == 5 and (scene.object[y, x] > 0.5).mean() > 0.7
            between = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1))[np.triu_indices(5, 1)]
            nearest.append(between.min() / scene.unit)
            mean.append(between.mean() / scene.unit)
            if spread == "row":  # on one line, and not upon each other
                across = np.linalg.svd(at - at.mean(axis=0))[1]
                assert across[1] < 1e-6 < 0.02 * scene.unit < between.min()
        far[spread] = np.mean(mean)
        assert spread != "scattered" or np.mean(nearest) > 0.15
    assert far["clustered"] < 0.4 * far["scattered"]


def test_one_word_changes_one_thing() -> None:
    """Captions could not be compared word by word: the place would jump with the strength."""
    masks = [paint(plate(), f"a {word} stain")[1] > 128 for word in ("faint", "slight", "obvious")]
    for mask in masks[1:]:
        assert (mask & masks[0]).sum() > 0.9 * (mask | masks[0]).sum()


def test_defects_land_on_the_object() -> None:
    """Stains on the empty background would be no defects of the object."""
    inside = foreground(disc())
    assert inside is not None
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    truth = x**2 + y**2 < (0.33 * SIDE) ** 2
    assert ((inside > 0.5) & truth).sum() > 0.85 * ((inside > 0.5) | truth).sum()
    for seed in range(6):
        _, mask = paint(disc(), "a stain", seed)
        assert (mask[truth] > 0).any() and (mask[x**2 + y**2 > (0.4 * SIDE) ** 2] == 0).all()
    assert foreground(plate()) is None


def test_a_grey_camera_stays_grey() -> None:
    """A detector would learn that color means defect."""
    for caption in ("a rust spot", "a red stain", "a blue thread", "a misprint"):
        picture, _ = paint(plate(), caption)
        assert np.ptp(picture.astype(int), axis=2).max() <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_odd_photos(family: str) -> None:
    """A black normal, a constant one, one smaller than a defect, long ones: each would stop a run."""
    odd = [
        np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8), plate()[:5, :7], plate()[:1, :1],
        disc()[:20], disc()[:, 30:44],
    ]  # fmt: skip
    for seed, photo in enumerate(odd):
        picture, mask = paint(photo, f"a huge obvious {NOUNS[family]}", seed)
        assert picture.shape == photo.shape
        np.testing.assert_array_equal(picture[mask == 0], photo[mask == 0])
        if min(photo.shape[:2]) >= 32:
            assert change(picture, photo, mask) > 3


@pytest.mark.parametrize("side", [32, 256, 1024])
def test_sizes(side: int) -> None:
    """A defect would be lost in a large photo, or fill a small one."""
    photo = plate(side)
    picture, mask = paint(photo, "a large dark stain and a long crack", 3)
    assert 0.01 < (mask > 0).mean() < 0.5
    assert change(picture, photo, mask) > 4


def test_words_that_name_nothing_are_counted() -> None:
    """A run could not say that its captions were not understood; and its pictures would all be alike."""
    model = Paint(subject="a photo of a frobnicated plate")
    assert isinstance(model, Alters) and isinstance(model, IgnoresWords)
    photos = np.stack([plate()] * 4)
    altered = model.alter(photos, ["a frobnicated plate", "zork", "", "a crack on a plate"], seeds=[1, 2, 3, 4])
    assert model.ignored_words == 1
    assert (altered.masks.reshape(4, -1).max(1) > 0).all()
    assert len({mask.tobytes() for mask in altered.masks}) == 4
    assert Paint().identity != model.identity != Paint(others=photos).identity


def test_texture_from_other_normals() -> None:
    """The grain would always be the photo's own, however many normals there are."""
    others = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    own = Paint().alter(plate()[None], ["a changed texture"], seeds=[1])
    taken = Paint(others=others).alter(plate()[None], ["a changed texture"], seeds=[1])
    assert (own.images != taken.images).any()
    np.testing.assert_array_equal(own.masks, taken.masks)


def test_many_names_and_none() -> None:
    """A caption that lists everything would take its time; an empty round would stop a run."""
    everything = ", ".join(f"a {noun}" for noun in NOUNS.values())
    few = ", ".join(f"a {noun}" for noun in list(NOUNS.values())[:MOST])
    np.testing.assert_array_equal(paint(plate(), everything)[0], paint(plate(), few)[0])
    none = Paint().alter(plate()[None][:0], [], seeds=[])
    assert none.images.shape == (0, SIDE, SIDE, 3) and none.masks.shape == (0, SIDE, SIDE)
    with pytest.raises(UserError, match=r"got 1, 2 and 1"):
        Paint().alter(plate()[None], ["a", "b"], seeds=[1])


def test_the_example_of_an_own_painter(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newcomer copies would not fit the protocol."""
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))
    from own_alters import Tape

    assert isinstance(Tape(), Alters)
    photos = np.stack([plate(), disc()])
    altered = Tape().alter(photos, ["red tape", "tape"], seeds=[1, 2])
    np.testing.assert_array_equal(altered.images[altered.masks == 0], photos[altered.masks == 0])
    assert (altered.images[0][altered.masks[0] > 0] == (200, 40, 40)).all()
