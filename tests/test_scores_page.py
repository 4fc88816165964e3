"""The page on a detector's scores: what it computes once, what it serves, what it keeps, and in a real browser."""

import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kka.cli import main
from kka.common.images import view
from kka.deploy.calibrate import calibrate
from kka.deploy.chosen import CHOSEN, Chosen, keep_chosen, read_chosen
from kka.deploy.heat import on_photo
from kka.deploy.marks import MARKS, add_mark, read_marks
from kka.deploy.stored import StoredDetector
from kka.deploy.stored_scores import detector_digest, scored_photos
from kka.errors import UserError
from kka.protocols import Images, Scores
from kka.review.scored import ScoredPhotos
from kka.review.scores_site import scores_site
from kka.review.server import Server
from kka.settings.fit import Fit
from test_review_page import browser, got


class Bright:
    """A detector whose score is the mean brightness; it counts the images that it scored."""

    scored = 0

    def fit(self, normals: Images, anomalies: Images | None = None) -> "Bright":
        return self

    def score(self, images: Images) -> Scores:
        self.scored += len(images)
        return images.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)

    def score_map(self, images: Images) -> np.ndarray:
        return images.mean(axis=3, dtype=np.float64).astype(np.float32)

    def save(self, path: Path) -> None:
        raise NotImplementedError


@pytest.fixture
def kept(tmp_path: Path) -> StoredDetector:
    """A detector with a threshold of 100 and nineteen held-out scores, 10 to 100."""
    folder = tmp_path / "detector"
    folder.mkdir()
    (folder / "detector.json").write_text('{"detector": "bright"}')
    calibration = calibrate(np.linspace(10, 100, 19).astype(np.float32), 0.05)
    return StoredDetector(detector=Bright(), name="bright", size=16, calibration=calibration, folder=folder)


def grey(path: Path, value: int, size: tuple[int, int] = (24, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight good photos of 10 to 115, two scratched ones of 90 and 200, and a file that is none."""
    folder = tmp_path / "photos"
    for i in range(8):
        grey(folder / f"test/good/{i}.png", 10 + 15 * i)
    for value in (90, 200):
        grey(folder / f"test/scratch/{value}.png", value)
    (folder / "test/good/broken.png").write_bytes(b"no picture")
    return folder


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def looked_at(kept: StoredDetector, folder: Path) -> ScoredPhotos:
    found, bad = scored_photos(kept, files_of(folder))
    return ScoredPhotos(kept, found, [folder], kept.folder / MARKS, set_aside=bad)


@contextmanager
def served(scored: ScoredPhotos) -> Iterator[Server]:
    with Server(scores_site(scored)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def test_scores_are_computed_once(kept: StoredDetector, photos: Path, tmp_path: Path) -> None:
    """The second opening of ten thousand photos would else take as long as the first; moved photos are known, changed
    ones are scored anew, and so is all by another detector."""
    counted = kept.detector
    assert isinstance(counted, Bright)
    seen: list[tuple[int, int]] = []
    found, bad = scored_photos(kept, files_of(photos), progress=lambda done, total: seen.append((done, total)))
    assert [round(photo.score) for photo in found] == [*range(10, 116, 15), 200, 90] and seen[-1] == (11, 11)
    assert "broken.png" in bad[0].path and "not an image" in bad[0].reason and counted.scored == 10
    assert scored_photos(kept, files_of(photos)) == (found, bad) and counted.scored == 10
    (photos / "test/good/0.png").rename(photos / "moved.png")
    grey(photos / "test/good/1.png", 33)
    again, _ = scored_photos(kept, files_of(photos))
    assert counted.scored == 11 and {round(photo.score) for photo in again} >= {10, 33}
    before = detector_digest(kept)
    keep_chosen(kept.folder, Chosen(threshold=3.0, promised=None))
    assert detector_digest(kept) == before, "a threshold changes no score"
    (kept.folder / "weights.safetensors").write_bytes(b"other weights")
    scored_photos(kept, files_of(photos))
    assert counted.scored == 21


def test_a_killed_process_goes_on(
    kept: StoredDetector, photos: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was scored before a kill, in the middle of a line even, is not scored again."""
    monkeypatch.setattr("kka.deploy.stored_scores.CHUNK", 4)
    (kept.folder / "notes.txt").write_text("killed")  # a cache file of its own
    counted, tick = kept.detector, iter(range(100))
    assert isinstance(counted, Bright)

    def killed(done: int, total: int) -> None:
        if next(tick) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scored_photos(kept, files_of(photos), progress=killed)
    book = own_cache / "scores" / f"{detector_digest(kept)}.jsonl"
    lines = book.read_bytes().splitlines()
    assert len(lines) == 8 == counted.scored
    book.write_bytes(b"\n".join(lines)[:-20])
    found, _ = scored_photos(kept, files_of(photos))
    assert len(found) == 10 and counted.scored == 11


def test_what_is_served(kept: StoredDetector, photos: Path) -> None:
    """Orders, filters at any threshold, labels by folder, pictures; nothing by a path, nothing without the token."""
    with served(looked_at(kept, photos)) as server:
        at = server.address
        _, about = got(at + "about")
        assert about["threshold"] == 100.0 and about["localises"] and len(about["held_out"]) == 19
        assert (len(about["scores"]), len(about["good"]), len(about["bad"]), about["set_aside"]) == (10, 8, 2, 1)
        assert about["scores"] == sorted(about["scores"]) and about["marked"] == []

        def scores(query: str) -> list[float]:
            return [photo["score"] for photo in got(f"{at}photos?{query}")[1]["photos"]]

        assert scores("") == sorted(about["scores"], reverse=True)
        assert scores("order=least+anomalous+first") == about["scores"]
        assert scores("order=nearest+to+the+threshold+first&threshold=88")[:2] == [90.0, 85.0]
        assert scores("kind=above+the+threshold&threshold=100") == [200.0, 115.0]
        assert scores("kind=above+the+threshold&threshold=115") == [200.0], "a score at the threshold is normal"
        assert scores("kind=a+defect+by+its+folder&words=scratch+90") == [90.0]
        _, found = got(f"{at}photos?kind=set+aside")
        assert found["total"] == 1 and found["aside"][0]["reason"].startswith("not an image")
        first = got(at + "photos")[1]["photos"][0]
        assert (first["name"], first["label"]) == ("test/scratch/200.png", "scratch")
        sizes = {}
        for kind in ("image", "thumbnail", "heat", "heat-thumbnail"):
            status, content = got(f"{at}{kind}/{first['id']}")
            sizes[kind] = Image.open(io.BytesIO(content)).size
            assert status == 200
        assert {*sizes.values()} == {(24, 16)}
        for wrong in ("image/10", "image/-1", "image/../../etc/passwd", "image/%2e%2e", "heat/x", "image/", "album.py"):
            assert got(at + wrong)[0] == 404, wrong
        assert got(f"{at}photos?kind=odd")[0] == got(f"{at}photos?threshold=nan")[0] == 400
        assert got(f"http://127.0.0.1:{server.server_port}/wrong/about")[0] == 404
        assert got(at + "about", host="evil.example:80")[0] == 404


def test_marks_are_kept_as_they_are_made(kept: StoredDetector, photos: Path, tmp_path: Path) -> None:
    """A line each, with all by which the photo is known again; the last word counts, for its copies too."""
    grey(photos / "copy.png", 200)
    with served(looked_at(kept, photos)) as server:
        at = server.address
        by_name = {photo["name"]: photo["id"] for photo in got(at + "photos")[1]["photos"]}
        body = {"id": by_name["test/scratch/200.png"], "said": "normal", "threshold": 150.5}
        assert got(at + "say", body=body)[1]["marked"] == [[200.0, "normal"], [200.0, "normal"]]
        (mark,) = read_marks(kept.folder / MARKS).values()
        assert (mark.said, mark.score, mark.threshold) == ("normal", 200.0, 150.5) and mark.by and "+00:00" in mark.at
        assert mark.path == str((photos / "test/scratch/200.png").absolute()) and len(mark.sha256) == 64
        wrong = got(f"{at}photos?kind=wrong&threshold=150.5")[1]["photos"]
        assert {photo["name"] for photo in wrong} == {"copy.png", "test/scratch/200.png"}
        assert got(f"{at}photos?kind=wrong&threshold=200")[1]["total"] == 0
        got(at + "say", body=body | {"id": by_name["test/scratch/90.png"], "said": "anomalous"})
        got(at + "say", body=body | {"id": by_name["copy.png"], "said": "no opinion"})
        for odd in ({"id": 99}, {"id": -1}, {"id": 0.5}, {"id": "0"}, {"said": "bad"}, {"threshold": "x"}, [1]):
            status, said = got(at + "say", body=odd if isinstance(odd, list) else body | odd)
            assert status == 400 and said["error"]
    marks = list(read_marks(kept.folder / MARKS).values())
    assert [(mark.said, mark.missed) for mark in marks] == [("anomalous", True), ("no opinion", False)]
    assert len((kept.folder / MARKS).read_text().splitlines()) == 3
    again = looked_at(kept, photos)
    assert again.said(again.at(by_name["test/scratch/90.png"])) == "anomalous"
    with (kept.folder / MARKS).open("a") as file:
        file.write('{"sha256": "ab')
    add_mark(kept.folder / MARKS, marks[0])
    with pytest.warns(UserWarning, match="line 4: no mark of a photo"):
        assert len(read_marks(kept.folder / MARKS)) == 2


def test_a_threshold_is_kept(kept: StoredDetector, photos: Path) -> None:
    """Beside the card, with who and when; the card stays as training wrote it, and taking back leaves nothing."""
    card = (kept.folder / "detector.json").read_bytes()
    with served(looked_at(kept, photos)) as server:
        at = server.address
        _, said = got(at + "say", body={"choose": 84.0})
        assert said["threshold"] == 84.0 and said["own"]["threshold"] == 100.0 and "chosen by" in said["chosen"]["told"]
        found = read_chosen(kept.folder)
        assert found is not None and found.promised == pytest.approx(1 - 15 / 20)
        for odd in (True, "x", [1], 1e300):
            assert got(at + "say", body={"choose": odd})[0] == 400
        assert got(at + "say", body={})[0] == 400
        for length in ("-1", "many", "9" * 30):
            asked = urllib.request.Request(at + "say", b"{}", {"Content-Length": length})
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(asked)
        assert got(at + "say", body={"choose": None})[1]["chosen"] is None
    assert not (kept.folder / CHOSEN).exists() and (kept.folder / "detector.json").read_bytes() == card
    (kept.folder / CHOSEN).write_text('{"threshold": "high"}')
    with pytest.raises(UserError, match=r"threshold\.json|expected a number"):
        read_chosen(kept.folder)


@pytest.mark.parametrize("size", [(90, 40), (40, 90), (60, 60)])
@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
def test_a_map_lies_where_it_belongs(size: tuple[int, int], fit: Fit) -> None:
    """A spot in the photo, seen by a detector in its square, is at the same spot of the photo again."""
    photo = np.zeros((size[1], size[0], 3), np.uint8)
    row, column = size[1] * 2 // 5, size[0] * 3 // 5
    photo[row - 3 : row + 4, column - 3 : column + 4] = 255
    from kka.common.pixels import pixels

    square = pixels(Image.fromarray(photo), 32, 65535, fit)
    heat = on_photo(Bright().score_map(square[None])[0] - (116 if fit == "pad" else 0), fit, *size)
    assert heat.shape == (size[1], size[0])
    found = np.unravel_index(int(heat.argmax()), heat.shape)
    assert abs(int(found[0]) - row) <= 4 and abs(int(found[1]) - column) <= 4


def test_a_photo_to_look_at(tmp_path: Path) -> None:
    """Whole, upright, at most as large as asked; a JPEG of many pixels too."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (1600, 800), "red").save(tmp_path / "a.jpg", exif=exif)
    shown = view(tmp_path / "a.jpg", 192)
    assert shown.size == (96, 192) and shown.mode == "RGB"
    assert view(grey(tmp_path / "b.png", 7), 192).size == (24, 16)


def test_the_command(
    kept: StoredDetector, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What does not fit together is said in words, before a page opens."""
    for words, told in (
        (["review", str(photos), str(photos)], "expected the directory of one run, or photos with --detector-dir"),
        (["review", str(photos), "--reviews", "x"], "--reviews: expected with --detector-dir alone"),
        (["review", str(photos)], "expected the directory of a kka run"),
        (["review", str(photos), "--detector-dir", str(photos)], "detector.json"),
    ):
        assert main(words) == 2
        assert told in " ".join(capsys.readouterr().err.split())


def test_ten_thousand_photos(kept: StoredDetector, tmp_path: Path) -> None:
    """A page, a filter and a mark are answered at once, however many photos there are."""
    import time

    from kka.deploy.stored_scores import ScoredPhoto

    file = grey(tmp_path / "one.png", 50)
    scores = np.random.default_rng(0).normal(50, 20, 10_000).astype(np.float32)
    found = [ScoredPhoto(file=file, sha256=f"{i:064x}", bytes=9, score=float(s)) for i, s in enumerate(scores)]
    with served(ScoredPhotos(kept, found, [tmp_path], tmp_path / MARKS)) as server:
        started = time.perf_counter()
        _, about = got(server.address + "about")
        _, page = got(f"{server.address}photos?order=nearest+to+the+threshold+first&threshold=60&start=5000")
        got(server.address + "say", body={"id": page["photos"][0]["id"], "said": "normal", "threshold": 60})
        assert time.perf_counter() - started < 10  # 0.3 s where nothing else runs
    assert page["total"] == len(about["scores"]) == 10_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # selenium's own
def test_in_a_browser(kept: StoredDetector, photos: Path, tmp_path: Path) -> None:
    """As a person works: look, move the threshold, mark by keys, see heat maps, keep a threshold. All is on disk, the
    figures follow the slider, nothing is loaded from elsewhere, and the page's script raises no error."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select, WebDriverWait

    driver = browser()
    try:
        with served(looked_at(kept, photos)) as server:
            driver.get(server.address)
            wait = WebDriverWait(driver, 60)

            def tiles() -> list[Any]:
                return driver.find_elements(By.CSS_SELECTOR, "#grid li")

            def figures() -> dict[str, str]:
                titles, texts = (driver.find_elements(By.CSS_SELECTOR, f"#figures {tag}") for tag in ("dt", "dd"))
                return {title.text: text.text for title, text in zip(titles, texts, strict=True)}

            def press(*keys: str) -> None:
                driver.find_element(By.TAG_NAME, "body").send_keys(*keys)

            def said() -> list[str]:
                return [mark.said for mark in read_marks(kept.folder / MARKS).values()]

            wait.until(lambda _: len(tiles()) == 10)
            assert figures()["called anomalous"] == "2 of 10 (20.0 %)"
            assert figures()["promised false positives"] == "at most 5.0 % (19 held out)"
            assert figures()["defects found, by folder"] == "1 of 2 (50.0 %)"
            value = driver.find_element(By.ID, "value")
            value.send_keys(Keys.CONTROL + "a")
            value.send_keys("86", Keys.ENTER)
            wait.until(lambda _: figures()["called anomalous"].startswith("4 of 10"))
            assert figures()["defects found, by folder"] == "2 of 2 (100.0 %)"
            assert figures()["false alarms, by folder"] == "2 of 8 (25.0 %)"
            assert figures()["promised false positives"].startswith("at most 20.0"), "3 of 19 and the new one"
            press(Keys.ARROW_RIGHT, "n")
            wait.until(lambda _: said() == ["normal"])
            press("a")
            wait.until(lambda _: said() == ["normal", "anomalous"])
            press("h")
            wait.until(lambda _: "heat-thumbnail" in tiles()[0].find_element(By.TAG_NAME, "img").get_attribute("src"))
            large = driver.find_element(By.ID, "large")
            wait.until(lambda _: driver.execute_script("return arguments[0].naturalWidth", large) == 24)
            Select(driver.find_element(By.ID, "kind")).select_by_value("wrong")
            wait.until(lambda _: len(tiles()) == 1)
            driver.find_element(By.ID, "slider").send_keys(Keys.ARROW_RIGHT)
            wait.until(lambda _: "not kept: 100.00 counts" in driver.find_element(By.ID, "whose").text)
            assert not (kept.folder / CHOSEN).exists()
            driver.find_element(By.ID, "keep").click()
            assert "kka export call photos anomalous above" in driver.find_element(By.ID, "question").text
            driver.find_element(By.ID, "yes").click()
            wait.until(lambda _: (kept.folder / CHOSEN).exists())
            assert 86 <= json.loads((kept.folder / CHOSEN).read_text())["threshold"] < 87
            wait.until(lambda _: "chosen by" in driver.find_element(By.ID, "whose").text)
            driver.find_element(By.ID, "own").click()
            wait.until(lambda _: not (kept.folder / CHOSEN).exists())
            loaded = driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
            assert loaded and all(name.startswith(server.address) for name in loaded)
            severe = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
            assert severe == [] and driver.find_element(By.ID, "error").get_attribute("hidden")
    finally:
        driver.quit()
