"""How a photo of any shape becomes a square: nothing is cut away unless asked, and training and scoring agree."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kka.common.fit import Shapes, fit_note
from kka.common.images import decode, sizes_of
from kka.common.pixels import square
from kka.config import RunConfig
from kka.data import open_task
from kka.deploy.anomalies import read_anomalies
from kka.deploy.score import score_files
from kka.deploy.stored import open_detector
from kka.deploy.train import annotate
from kka.errors import UserError
from kka.settings.fit import Fit
from test_detector_contract import build, pictures


def photo(width: int, height: int, red: tuple[int, int] | None = None) -> Image.Image:
    """Grey, with a red band over some of the columns."""
    image = np.full((height, width, 3), 128, np.uint8)
    if red is not None:
        image[:, red[0] : red[1]] = (255, 0, 0)
    return Image.fromarray(image)


def folder_of(tmp_path: Path, *sizes: tuple[int, int]) -> Path:
    """Ten photos, each with a grey of its own."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(10):
        width, height = sizes[i % len(sizes)]
        Image.fromarray(np.full((height, width, 3), 100 + i, np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize(("fit", "columns"), [("squash", (0, 2)), ("pad", (0, 2)), ("crop", None)])
def test_what_lies_at_the_edge(fit: Fit, columns: tuple[int, int] | None, tmp_path: Path) -> None:
    """A defect at the end of a long photo must stay in sight; only a crop may lose it."""
    photo(160, 40, red=(0, 20)).save(tmp_path / "a.png")
    image = decode(tmp_path / "a.png", 16, fit=fit).astype(int)
    red = np.argwhere(image[:, :, 0] - image[:, :, 1] > 200)
    if columns is None:
        assert len(red) == 0
    else:
        assert (red[:, 1].min(), red[:, 1].max() + 1) == columns
        assert len(np.unique(red[:, 0])) == (16 if fit == "squash" else 4), "squashed photos fill the square"


def test_padding_is_of_one_grey_and_the_photo_in_the_middle(tmp_path: Path) -> None:
    """Uneven rest goes to the lower and right side; a strip thinner than a pixel keeps one."""
    photo(30, 10).save(tmp_path / "a.png")
    image = decode(tmp_path / "a.png", 12, fit="pad")
    assert (image[4:8] == 128).all() and (image[:4] == (124, 116, 104)).all() and (image[8:] == (124, 116, 104)).all()
    photo(900, 3).save(tmp_path / "strip.png")
    strip = decode(tmp_path / "strip.png", 16, fit="pad")
    assert (strip == 128).all(axis=(1, 2)).sum() == 1
    with pytest.raises(ValueError, match="expected squash, pad or crop; got stretch"):
        square(photo(30, 10), 12, "stretch")


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
def test_squares_are_the_same_by_any(fit: Fit, tmp_path: Path) -> None:
    """A data set of squares must not change with how photos are treated."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png", 16, fit=fit), decode(tmp_path / "a.png", 16))


def test_the_shapes_decide_and_the_note_counts() -> None:
    """By hand: of 40 x 30 a crop loses a quarter, of 100 x 20 four fifths."""
    some = Shapes.of([(40, 30), (30, 40), (40, 30), (100, 20)])
    assert (some.fit, some.lost, some.most_lost) == ("squash", 0.25, 0.8)
    assert Shapes.of([(100, 20), (20, 100)]).fit == "pad"
    note = fit_note(some, "squash", asked=False) or ""
    assert "photos of 40 × 30 pixels by the median are squashed" in note
    assert "a crop would lose 25 % of a photo by the median and 80 % at the most" in note
    assert "--fit pad, crop or tile does otherwise" in note
    assert "which loses 25 %" in (fit_note(some, "crop", asked=True) or "")
    assert fit_note(Shapes.of([(8, 8)]), "squash", asked=False) is None


def test_photos_lose_nothing_unless_asked(tmp_path: Path) -> None:
    """The default of photos, what is said of it, and what the task remembers for scoring."""
    folder = folder_of(tmp_path, (64, 48))
    found = open_task(str(folder), describe="a photo", size=16)
    assert found.fit == "squash" and "are squashed into squares" in str(found.details["shapes"])
    asked = open_task(str(folder), describe="a photo", size=16, fit="pad")
    assert asked.fit == "pad" and (asked.normals[0, 0] == (124, 116, 104)).all()


def test_no_more_photos_are_looked_at_than_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 999 photos all were opened where 500 were meant."""
    counted: list[int] = []

    def sizes(files: Iterable[Path]) -> Iterator[tuple[int, int]]:
        found = list(sizes_of(files))
        counted.append(len(found))
        return iter(found)

    monkeypatch.setattr("kka.data.folder.MEASURED", 6)
    monkeypatch.setattr("kka.data.folder.sizes_of", sizes)
    open_task(str(folder_of(tmp_path, (64, 48))), describe="a photo", size=16)
    assert counted == [5]  # every second of the ten


def test_the_card_says_it_and_an_old_one_means_a_crop(tmp_path: Path) -> None:
    """A detector that scores photos otherwise than it was trained has another threshold than was promised."""
    photo(60, 20, red=(0, 10)).save(tmp_path / "a.png")
    scores = {}
    for fit in ("crop", "squash", "pad"):
        folder = tmp_path / fit
        build("sad").fit(pictures(10), pictures(4, seed=1)).save(folder)
        annotate(folder, pictures(5, seed=2), fit=fit)
        scores[fit] = score_files(open_detector(folder), [tmp_path / "a.png"]).rows[0].score
    assert len({*scores.values()}) == 3
    card = json.loads((tmp_path / "crop" / "detector.json").read_text())
    del card["fit"]
    (tmp_path / "crop" / "detector.json").write_text(json.dumps(card))
    old = open_detector(tmp_path / "crop")
    assert old.fit == "crop" and score_files(old, [tmp_path / "a.png"]).rows[0].score == scores["crop"]
    (tmp_path / "crop" / "detector.json").write_text(json.dumps(card | {"fit": "tiles"}))
    with pytest.raises(UserError, match='expected "fit" to be squash, pad, crop, tile; got \'tiles\''):
        open_detector(tmp_path / "crop")


def test_a_stored_run_that_does_not_say_was_cropped() -> None:
    """A run that is gone on with must see the pictures that it was begun with."""
    assert RunConfig().fit is None
    assert RunConfig.from_dict({"data": "photos"}).fit == "crop"
    assert RunConfig.from_dict(RunConfig(data="photos").as_dict()).fit is None
    assert RunConfig.from_dict({"data": "photos", "fit": "pad"}).fit == "pad"


def test_anomalies_of_a_folder_become_squares_as_the_normals_do(tmp_path: Path) -> None:
    """Else the way into a square is what tells anomalies from normals."""
    photo(60, 20, red=(0, 10)).save(tmp_path / "a.png")
    squashed = read_anomalies(tmp_path, 12, fit="squash").images[0]
    assert np.array_equal(squashed, decode(tmp_path / "a.png", 12, fit="squash"))
    assert not np.array_equal(squashed, read_anomalies(tmp_path, 12).images[0])
