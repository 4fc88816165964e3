"""`kka images measure`: each figure against a slow, literal reference; models that hear, or copy; the command."""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.linalg
from PIL import Image

from kka.cli import main
from kka.common.cache import ImageCache
from kka.data.known import load_held_out, load_known
from kka.detectors.pooled import pooled_features
from kka.errors import UserError
from kka.imaging.bank import BankModel
from kka.imaging.quality.appearance import appearance
from kka.imaging.quality.copies import nearest, share_nearer
from kka.imaging.quality.frechet import frechet_distance
from kka.imaging.quality.words import said, word_agreement
from kka.protocols import Images
from kka.run.quality import measure_quality
from kka.settings.backbone import BackboneSettings
from kka.settings.quality import QualitySettings
from kka.task import Knowledge

COLORS = {"red": (210, 40, 40), "blue": (40, 50, 210), "green": (40, 190, 50), "white": (235, 235, 235)}
NAMES = list(COLORS)
SMALL = QualitySettings(pictures=40)


def picture(color: str, seed: int, side: int = 32) -> np.ndarray:
    """A disc of a colour at a place of its own on noise."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    inside = np.hypot(x - rng.integers(10, 22), y - rng.integers(10, 22)) < rng.integers(7, 10)
    base = rng.normal(90, 25, (side, side, 3))
    base[inside] = np.array(COLORS[color]) + rng.normal(0, 12, (int(inside.sum()), 3))
    return base.clip(0, 255).astype(np.uint8)


def knowledge(count: int, first: int) -> Knowledge:
    kinds = tuple(NAMES[i % 4] for i in range(count))
    return Knowledge(
        images=np.stack([picture(kind, first + i) for i, kind in enumerate(kinds)]),
        captions=tuple((f"a {kind} flower", f"this flower is {kind}") for kind in kinds),
        kinds=kinds,
    )


TRAINING, HELD = knowledge(176, 0), knowledge(80, 10_000)


class Painter:
    """Draws the colour that the caption names, by way of `heard`."""

    batch_size = 8

    def __init__(self, heard: dict[str, str] | None = None) -> None:
        self.heard, self.asked = heard or {}, 0
        self.identity = f"painter {sorted(self.heard.items())}"

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images:
        self.asked += len(captions)
        named = [next(word for word in NAMES if word in caption.split()) for caption in captions]
        drawn = [
            picture(self.heard.get(word, word), 50_000 + seed % 10**6)
            for word, seed in zip(named, seeds, strict=True)
        ]  # fmt: skip
        return np.stack(drawn)


def test_a_model_that_hears_and_one_that_does_not() -> None:
    """Figures that do not tell the two apart, or that call real pictures bad, measure nothing."""
    good, shown = measure_quality(Painter(), TRAINING, HELD, settings=SMALL)
    assert (good.pictures, good.set_aside, len(shown.captions)) == (40, 0, 40)
    assert {w.word for w in good.words} == {*NAMES} and {w.captions for w in good.words} == {10}
    assert good.means()["color"]["real_auroc"] > 0.95 and good.means()["all"]["drawn_auroc"] > 0.95
    assert good.means()["all"]["drawn_balanced"] > 0.9
    turned = dict(zip(NAMES, [*NAMES[1:], NAMES[0]], strict=True))
    deaf, _ = measure_quality(Painter(turned), TRAINING, HELD, settings=SMALL)
    assert deaf.means()["all"]["drawn_auroc"] < 0.5 and deaf.means()["all"]["real_auroc"] > 0.95
    poor, _ = measure_quality(Painter(dict.fromkeys(NAMES, "white")), TRAINING, HELD, settings=SMALL)
    assert poor.frechet_drawn > 1.3 * good.frechet_drawn
    assert good.frechet_drawn < 2 * good.frechet_real
    for figures in good.copies:
        assert figures.drawn_nearer < 0.5, figures


def test_copies_are_found() -> None:
    """A bank gives its pictures: nothing can be more of a copy."""
    found, shown = measure_quality(BankModel(TRAINING), TRAINING, HELD, settings=SMALL)
    for figures in found.copies:
        assert figures.drawn_nearer == 1, figures
    assert np.array_equal(shown.drawn, shown.nearest)


def test_nothing_is_drawn_twice(tmp_path: Path) -> None:
    """Hours of drawing must not be lost to a kill, nor done again for another backbone."""
    cache, painter = ImageCache(tmp_path), Painter()

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "images" and done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_quality(painter, TRAINING, HELD, settings=SMALL, cache=cache, progress=stop)
    assert painter.asked == 16
    again, _ = measure_quality(painter, TRAINING, HELD, settings=SMALL, cache=cache)
    assert painter.asked == 40
    assert again == measure_quality(Painter(), TRAINING, HELD, settings=SMALL)[0]


def test_frechet_distance_by_the_square_root_of_a_matrix() -> None:
    """The textbook's formula, and two cases that are known: shifted sets, and a set and itself."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)), rng.normal(1, 2, size=(40, 5))
    first, second = np.cov(a.T), np.cov(b.T)
    gap = ((a.mean(0) - b.mean(0)) ** 2).sum()
    wanted = gap + np.trace(first + second - 2 * scipy.linalg.sqrtm(first @ second).real)
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-6)
    assert frechet_distance(a, a + 3) == pytest.approx(5 * 9, rel=1e-6)
    assert abs(frechet_distance(a, a)) < 1e-6
    few = rng.normal(size=(4, 6))  # fewer than dimensions: a covariance without an inverse
    assert abs(frechet_distance(few, few)) < 1e-6


def test_nearest_by_loops() -> None:
    """Index, distance and what it is beside the next ones, also of mirrored pictures and with few to compare."""
    rng = np.random.default_rng(1)
    known, mirrored, mine = (rng.normal(size=(n, 7)) for n in (60, 60, 9))
    found = nearest(mine, known, mirrored)
    for i, x in enumerate(mine):
        to = [min(np.sqrt(((x - s[j]) ** 2).mean()) for s in (known, mirrored)) for j in range(60)]
        assert found.index[i] == int(np.argmin(to)) and found.distance[i] == pytest.approx(min(to), rel=1e-4)
        assert found.relative[i] == pytest.approx(min(to) / np.mean(sorted(to)[:50]), rel=1e-4)
    copies = nearest(known[:3], known[:20])
    assert copies.index.tolist() == [0, 1, 2] and copies.relative.max() < 0.01
    share, limit = share_nearer(np.array([0.0, 1.0, 2.0, 150.0]), np.arange(101.0))
    assert (share, limit) == (0.25, 1.0)


def test_words_are_whole_and_frequent() -> None:
    """ "red" is not in "feathered", and a word of three pictures cannot be learned."""
    assert said(["A heart-shaped, FEATHERED flower"]) == [{"a", "heart", "shaped", "feathered", "flower"}]
    rng = np.random.default_rng(2)
    known, held = rng.normal(size=(200, 4)), rng.normal(size=(60, 4))
    told = [("a red flower", "a flower") if x[0] > 0 else ("a flower",) for x in known]
    told[0] = ("a blue flower",)
    found = word_agreement(known, told, held, -held, ["red" if x[0] > 0 else "bloom" for x in held])
    assert [w.word for w in found] == ["red"]
    assert found[0].real_auroc > 0.95 and found[0].drawn_auroc < 0.05


def test_appearance_depends_on_the_picture_alone() -> None:
    """Colour and place show; neighbours in the batch do not; sides need not be multiples of four."""
    images = np.stack([picture(name, 3) for name in NAMES])
    found = appearance(images)
    assert found.shape == (4, 204) and np.isfinite(found).all()
    assert np.allclose(found[2:3], appearance(images[2:3]))
    assert appearance(images[:0]).shape == (0, 204) and appearance(images[:, :30, :29]).shape == (4, 204)
    flat = np.zeros((1, 8, 8, 3), np.uint8)
    flat[:, :2, :2] = (255, 0, 0)
    corner = appearance(flat)[0]
    assert corner[:3].tolist() == [1, 0, 0] and not corner[3:48].any()
    assert corner[-28:][12] == pytest.approx(1 / 16)  # light pixels of the first hue


def test_a_backbone_gives_one_vector_a_picture() -> None:
    """Random weights are enough to see shape, cache and progress."""
    told: list[tuple[int, int]] = []
    settings = BackboneSettings(name="resnet10t", weights="random")
    features = pooled_features(settings, side=32, device="cpu", progress=lambda *given: told.append(given))
    found = features(TRAINING.images[:70])
    assert found.shape == (70, 256 + 512) and told == [(64, 70), (70, 70)]
    assert np.array_equal(features(TRAINING.images[:70]), found) and len(told) == 2


def test_what_cannot_be_measured() -> None:
    """Too few, or of two sizes."""
    with pytest.raises(UserError, match="at least 20 training pictures and 40 held-out ones; got 176 and 30"):
        measure_quality(Painter(), TRAINING, knowledge(30, 500))
    big = Knowledge(images=np.repeat(HELD.images, 2, axis=1), captions=HELD.captions, kinds=HELD.kinds)
    with pytest.raises(UserError, match="of one size"):
        measure_quality(Painter(), TRAINING, big)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flowers")
    for side, first, count in (("train", 0, 240), ("test", 10_000, 120)):
        rows = []
        for i in range(count):
            buffer = io.BytesIO()
            Image.fromarray(picture(NAMES[i % 4], first + i)).save(buffer, "PNG")
            rows.append({
                "image": {"bytes": buffer.getvalue(), "path": f"{i}.png"}, "label": i % 4, "label_name": NAMES[i % 4],
                "captions": [f"a {NAMES[i % 4]} flower"],
            })  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{side}.parquet")
    return folder


def test_held_out_pictures_are_test_pictures_of_known_classes(data: Path) -> None:
    """A training picture among them would make a copy look original; a withheld class is not for this either."""
    held, _ = load_held_out(data, {"red", "blue"}, size=32, most=30, seed=0)
    assert {*held.kinds} == {"red", "blue"} and len(held.images) == 30
    test = {picture(NAMES[i % 4], 10_000 + i).tobytes() for i in range(120)}
    assert all(image.tobytes() in test for image in held.images)
    for image, captions, kind in zip(held.images, held.captions, held.kinds, strict=True):
        assert captions == (f"a {kind} flower",) and image.tobytes() in test
    assert list(held.kinds) != sorted(held.kinds)
    assert load_held_out(data, {"red", "blue"}, size=32, most=30, seed=1)[0].digest != held.digest


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures, command, digests and sheet; the stored command measures the same again."""
    out = tmp_path / "q"
    arguments = ["images", "measure", "bank", "--data", str(data), "--size", "32", "--pictures", "30"]
    assert main([*arguments, "--known", "red", "blue", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "30 drawn pictures" in told and "AUROC" in told and "biased" in told
    facts: dict[str, Any] = json.loads((out / "quality.json").read_text())
    known, _ = load_known(data, ["red", "blue"], size=32)
    assert facts["digests"]["training pictures"] == known.digest
    assert facts["classes"] == ["blue", "red"] and facts["pictures"] == 30
    assert [figures["drawn_nearer"] for figures in facts["copies"]] == [1.0] * 4
    with Image.open(out / "quality.png") as sheet:
        assert min(sheet.size) > 500
    before = (out / "quality.json").read_bytes()
    assert main(facts["command"].split()[1:]) == 0
    assert (out / "quality.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["bank"], "expected --data, as bank does not say what it was trained on"),
        (["bank", "--known", "red"], "expected --data with --known"),
        (["bank", "--data", "."], "which this data does not have|held-out pictures|captions"),
        (["nothing", "--data", "garden"], "unknown image model: expected one of"),
        (["bank", "--data", "garden", "--backbone.weights", "w.safetensors"], "expected --backbone.name"),
    ],
)
def test_errors_say_what_to_do(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one message, before anything is drawn."""
    monkeypatch.chdir(tmp_path)
    assert main(["images", "measure", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.lstrip().startswith("kka: ") and "Traceback" not in error
    assert re.search(told, error), error
