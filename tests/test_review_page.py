"""The page on which a person looks through a run's pictures: what it serves, to whom, and in a real browser."""

import dataclasses
import io
import json
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kka.algorithm.folder import NORMALS, RunFolder
from kka.algorithm.pool import AnomalyPool
from kka.algorithm.reviews import REVIEWS, read_reviews
from kka.cli import main
from kka.errors import UserError
from kka.report.altered import OUTLINE
from kka.review.album import Album
from kka.review.run_site import run_site
from kka.review.server import PAGE, TYPES, Server

ROOM = Path(__file__).parent.parent / "src/kka/review"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    return folder


@contextmanager
def served(run: Path) -> Iterator[Server]:
    with Server(run_site(Album(run))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def got(address: str, *, body: Any = None, host: str | None = None) -> tuple[int, Any]:
    """Status and content: JSON unpacked, else the bytes."""
    headers = {} if host is None else {"Host": host}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data, headers)) as answer:
            content = answer.read()
            return answer.status, json.loads(content) if "json" in answer.headers["Content-Type"] else content
    except urllib.error.HTTPError as error:
        content = error.read()
        return error.code, json.loads(content) if content.startswith(b"{") else content


def test_pictures_by_filter(run: Path) -> None:
    """Every picture of every round, once; the filters part them; the hardest first."""
    drawn = [entry for number in range(3) for entry in RunFolder(run).fresh(number).entries]
    with served(run) as server:
        at = server.address
        _, about = got(at + "about")
        assert (about["rounds"], about["pictures"]) == (3, len(drawn))
        by_kind = {kind: got(f"{at}pictures?kind={kind.replace(' ', '%20')}")[1]["total"] for kind in about["kinds"]}
        assert by_kind["all"] == by_kind["open"] == len(drawn)
        assert by_kind["hard"] + by_kind["easy"] + by_kind["unjudged"] == len(drawn)
        _, found = got(f"{at}pictures?round=1&words=red+flower")
        captions = [entry.caption for entry in RunFolder(run).fresh(1).entries]
        assert found["total"] == sum("red" in caption and "flower" in caption for caption in captions)
        _, page = got(f"{at}pictures?start=0")
        relative = [row["relative"] for row in page["pictures"] if row["relative"] is not None]
        assert relative == sorted(relative) and len(page["pictures"]) == min(PAGE, len(drawn))
        first = page["pictures"][0]
        _, stored = got(f"{at}image/{first['id']}")
        pixels = {e.id: i for i, e in enumerate(RunFolder(run).fresh(first["round"]).entries)}[first["id"]]
        assert (np.asarray(Image.open(io.BytesIO(stored))) == RunFolder(run).fresh(first["round"]).images[pixels]).all()
        assert first["normal"] and got(f"{at}normal/{first['id']}")[1].startswith(b"\x89PNG")
        assert got(f"{at}image/none")[0] == got(f"{at}image/../../secret")[0] == 404
        assert got(f"{at}pictures?kind=odd")[0] == 400


def test_decisions_are_kept_as_they_are_made(run: Path) -> None:
    """Each is in the file when the answer comes; a picture of another run and a slip are refused."""
    with served(run) as server:
        at = server.address
        ids = [row["id"] for row in got(at + "pictures")[1]["pictures"]]
        assert got(at + "say", body={"id": ids[0], "verdict": "veto", "reason": "nonsense"})[0] == 200
        assert read_reviews(run / REVIEWS).vetoed == {ids[0]}
        assert got(f"{at}pictures?kind=vetoed")[1]["pictures"][0]["reason"] == "nonsense"
        _, found = got(at + "pair")
        one, other = found["pair"]
        assert got(at + "say", body={"harder": other["id"], "easier": one["id"]})[1]["counts"]["choices"] == 1
        _, after = got(at + "pair")
        assert {row["id"] for row in after["pair"]} != {one["id"], other["id"]}
        for wrong in ({"id": "x", "verdict": "keep"}, {"id": ids[1], "verdict": "veto"}, {"harder": ids[1]}, [1]):
            status, said = got(at + "say", body=wrong)
            assert status == 400 and said["error"]
        assert got(at + "say", body={"id": ids[0], "verdict": "none"})[0] == 200
        assert not read_reviews(run / REVIEWS).vetoed
    assert len((run / REVIEWS).read_text().splitlines()) == 3


def test_who_does_not_know_the_token_gets_nothing(run: Path) -> None:
    """Another page in the browser, or a name that was made to point here, could else read and write reviews."""
    with served(run) as server:
        root = f"http://127.0.0.1:{server.server_port}/"
        body = {"id": "r0-00000", "verdict": "keep"}
        for path in ("", "about", "wrong/about", f"{server.token}x/about", server.token, "run.js"):
            assert got(root + path)[0] == 404
        assert got(root + "wrong/say", body=body)[0] == 404
        assert got(server.address + "about", host="evil.example:80")[0] == 404
        assert server.server_address[0] == "127.0.0.1" and len(server.token) >= 32
        with pytest.raises(UserError, match=r"port \d+ cannot be had"):
            Server(server.site, port=server.server_port)
    assert not (run / REVIEWS).exists()


def test_nothing_comes_from_outside() -> None:
    """No font, script, picture or address beyond this machine stands in the page's files."""
    files = [file for file in ROOM.iterdir() if file.suffix in TYPES]
    assert len(files) == 6
    for file in files:
        assert not re.search(r"https?:|//[a-z]|@import|url\(", file.read_text().replace("// ", "")), file.name


def test_runs_that_cannot_be_reviewed(tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No run; a run without pictures; and one that was stopped is shown as far as it came."""
    assert main(["review", str(tmp_path)]) == 2
    assert "expected the directory of a kka run" in " ".join(capsys.readouterr().err.split())
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for gone in ("task", "rounds/2", "rounds/1/images", "rounds/1/scores", "rounds/1/pool"):
        shutil.rmtree(run / gone)
    album = Album(run)
    assert album.rounds == 1 and all(one.relative is not None for one in album.shown.values()), "round 1 judged them"
    assert album.normal(next(iter(album.shown))) is None
    shutil.rmtree(run / "rounds")
    with pytest.raises(UserError, match="has no pictures yet"):
        Album(run)


def test_altered_normals(run: Path) -> None:
    """Of a picture that was painted on a normal: that normal, and a line around what was painted."""
    made = RunFolder(run).fresh(0)
    entries = tuple(dataclasses.replace(entry, normal=7) for entry in made.entries)
    masks = np.zeros(made.images.shape[:3], np.uint8)
    masks[:, 4:8, 4:8] = 255
    AnomalyPool(entries, made.images, masks).save(run / "rounds/0/images/images.parquet")
    normal = np.full((1, 16, 16, 3), 9, np.uint8)
    np.savez_compressed(run / "rounds/0/images" / NORMALS, index=np.array([7]), images=normal)
    album = Album(run)
    one = entries[0].id
    told = album.told(album.shown[one])
    assert told["altered"] and told["normal"]
    assert (np.asarray(Image.open(io.BytesIO(album.normal(one) or b""))) == 9).all()
    outline = np.asarray(Image.open(io.BytesIO(album.outline(one) or b"")))
    assert (outline[3, 4:8] == OUTLINE).all() and (outline[4:8, 4:8] == made.images[0, 4:8, 4:8]).all()
    assert album.outline(RunFolder(run).fresh(1).entries[0].id) is None


@pytest.fixture(scope="session")
def many(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with ten thousand pictures of 64 pixels a side."""
    folder = tmp_path_factory.mktemp("many") / "run"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "rounds/1")
    shutil.rmtree(folder / "rounds/2")
    made = RunFolder(folder).fresh(0)
    entries = tuple(
        type(e)(**{**vars(e), "id": f"r0-{i:05d}"}) for i, e in enumerate(made.entries[i % 24] for i in range(10_000))
    )
    images = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)[np.arange(10_000) % 24]
    AnomalyPool(entries, images).save(folder / "rounds/0/images/images.parquet")
    return folder


@pytest.mark.slow
def test_ten_thousand_pictures(many: Path) -> None:
    """A page is read at once, however many there are; a decision does not wait for them either."""
    with served(many) as server:
        started = time.perf_counter()
        _, page = got(f"{server.address}pictures?start=5000&words=flower")
        got(f"{server.address}thumbnail/{page['pictures'][0]['id']}")
        got(server.address + "say", body={"id": page["pictures"][0]["id"], "verdict": "keep"})
        assert page["total"] == 10_000 and time.perf_counter() - started < 10  # 0.2 s where nothing else runs


def browser() -> Any:
    """Headless Chromium through Selenium; a skip with the reason where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with its driver here: apt-get install chromium chromium-driver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=Service(driver))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # selenium's own
def test_in_a_browser(run: Path, tmp_path: Path) -> None:
    """As a person works: look, press keys, filter, compare two. Every decision is on disk; nothing is loaded from
    elsewhere, and the page's script raises no error."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select, WebDriverWait

    driver = browser()
    try:
        with served(run) as server:
            driver.get(server.address)
            wait = WebDriverWait(driver, 60)

            def tiles() -> list[Any]:
                return driver.find_elements(By.CSS_SELECTOR, "#grid li")

            def press(*keys: str) -> None:
                driver.find_element(By.TAG_NAME, "body").send_keys(*keys)

            def said() -> int:
                return len((run / REVIEWS).read_text().splitlines()) if (run / REVIEWS).exists() else 0

            wait.until(lambda _: tiles())
            order = [row["id"] for row in got(server.address + "pictures")[1]["pictures"]]
            for number, key in enumerate("k12h", start=1):
                press(key)
                wait.until(lambda _, number=number: said() == number)
            press("u", Keys.ARROW_RIGHT)
            wait.until(lambda _: said() == 5)
            found = read_reviews(run / REVIEWS)
            spoken = [found.decisions[name].reason or found.decisions[name].verdict for name in order[:4]]
            assert spoken == ["keep", "looks normal", "does not show its caption", "harder"]
            large = driver.find_element(By.ID, "large")
            wait.until(lambda _: driver.execute_script("return arguments[0].naturalWidth", large) == 16)
            driver.save_screenshot(str(tmp_path / "browse.png"))
            Select(driver.find_element(By.ID, "kind")).select_by_value("vetoed")
            wait.until(lambda _: len(tiles()) == 2)
            words = driver.find_element(By.ID, "words")
            words.send_keys("no such word")
            wait.until(lambda _: not tiles() and driver.find_element(By.ID, "where").text == "none")
            words.clear()
            words.send_keys(Keys.ENTER)
            press("c")
            wait.until(lambda _: len(driver.find_elements(By.CSS_SELECTOR, "#two img")) == 2)
            images = driver.find_elements(By.CSS_SELECTOR, "#two img")
            shown = [image.get_attribute("src").rpartition("/")[2] for image in images]
            driver.save_screenshot(str(tmp_path / "pairs.png"))
            press(Keys.ARROW_RIGHT)
            wait.until(lambda _: said() == 6)
            (choice,) = read_reviews(run / REVIEWS).choices
            assert [choice.easier, choice.harder] == shown
            loaded = driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
            assert loaded and all(name.startswith(server.address) for name in loaded)
            severe = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
            assert severe == [] and driver.find_element(By.ID, "error").get_attribute("hidden")
            assert (tmp_path / "browse.png").stat().st_size > 10_000
        press(Keys.ESCAPE)
        Select(driver.find_element(By.ID, "kind")).select_by_value("all")  # which asks, and nobody is there
        wait.until(lambda _: "was ended" in driver.find_element(By.ID, "error").text)
    finally:
        driver.quit()
