"""The report against a small run directory written by hand: its figures, its self-containment, its special cases."""

import base64
import html
import json
import math
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from kka.algorithm.folder import RunFolder
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.cli.progress import percent
from kka.common.inspection import inspect, write_inspection
from kka.common.ledger import NOTHING, Ledger
from kka.common.metrics import Estimate
from kka.config import DetectorOptions, RunConfig
from kka.deploy.gallery import GALLERY, write_gallery
from kka.errors import UserError
from kka.protocols import Images
from kka.report import analysis, write_report
from kka.report.figures import apart, histogram, is_wide
from kka.report.html import commands, cost_rows, headline
from kka.report.read import read_run
from kka.report.words import words_by_round
from kka.settings.backbone import BackboneSettings
from kka.settings.deep_sad import DeepSADSettings
from kka.settings.language import LanguageSettings
from kka.task import TestSet

NASTY = '<script>alert(1)</script> & "a" <b>rosé</b> 花 {{ 7 * 7 }} $x^2$ \u2028 end'
TEST = np.repeat([False, True], [16, 48])


class Page(HTMLParser):
    """The tags and attributes of a page, the cells of its tables, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.titles: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.cell = False
        self.feed(text)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                self.links.append(value or "")
            if name == "title":
                self.titles.append(value or "")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.cell = False

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"
        if self.cell:
            self.tables[-1][-1][-1] += data.strip()

    def table(self, first_title: str) -> list[list[str]]:
        return next(t for t in self.tables if t[0][0] == first_title)


def figure(*values: float) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "ci95": 0.0125 if len(values) > 1 else None, "per_seed": list(values)}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def make_run(
    root: Path,
    *,
    rounds: int = 2,
    seeds: int = 2,
    test: bool = True,
    split: bool = True,
    latent: bool = True,
    normals: np.ndarray | None = None,
    **config: Any,
) -> Path:
    """A run directory as `kka.run.execute` leaves it, with invented figures."""
    rng = np.random.default_rng(0)
    root.mkdir()
    shape = (10, 64, 64, 3)
    normals = rng.integers(0, 256, shape, dtype=np.uint8) if normals is None else normals
    settings = RunConfig(rounds=rounds, seeds=seeds, initial=12, fresh=12, **config).as_dict()
    (root / "config.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    (root / "task").mkdir()
    task: dict[str, np.ndarray] = {"normals": normals}
    if test:
        task |= {"is_anomaly": TEST, "kinds": np.where(TEST, "rose", "daisy")}
        task |= {"seen": np.arange(64) % 2 == 0} if split else {}
    np.savez_compressed(root / "task" / "task.npz", **task)  # type: ignore[arg-type]
    prompt = [{"normal": 3, "caption": f"typical {NASTY}", "prompt": "Generate …"}]
    write_rows(root / "rounds/0/representatives/representatives.jsonl", prompt)
    facts = [make_round(root / "rounds", number, rounds, rng) for number in range(rounds + 1)]
    arms = {}
    if test:
        for place, name in enumerate(["none", "noise", *(f"kka-{r}" for r in range(rounds + 1)), "real"]):
            arms[name] = make_arm(root / "arms" / name, 0.5 + 0.0617 * place, seeds, split, latent, rng)
    stages = {"rounds/0/captions": dict(seconds=1.25, peak_mb=100.5, captions=12, tokens=340)}
    stages |= {"rounds/1/captions": dict(seconds=2.5, peak_mb=90, captions=12, tokens=1000)}
    stages |= {"arms/none/seed-0": dict(seconds=6.25, peak_mb=200)}
    totals = dict(seconds=10.0, peak_mb=200, captions=24, tokens=1340)
    (root / "ledger.json").write_text(json.dumps({"totals": totals, "stages": stages}))
    counts = dict(test_normals=16, test_anomalies=48) if test else dict(test_normals=None, test_anomalies=None)
    summary = {
        "task": {
            "name": f"clematis {NASTY}", "source": "photos", "domain": "flowers", "normals": 31,
            "image_size": [64, 64], **counts, "details": {},
            "set_aside": [{"path": "bad <i>.png", "reason": "cut short"}] if rounds else [],
        },
        "models": {"language": "garden", "images": "garden", "detector": "sad"},
        "seed": 0, "seeds": list(range(seeds)), "mode": "rep", "arms": arms, "rounds": facts,
        "seconds": {}, "peak_mb": 200, "machine": {"cores": 2, "processor": "x86_64", "kka": "0.1.0"},
    }  # fmt: skip
    (root / "summary.json").write_text(json.dumps(summary))
    return root


def make_round(folder: Path, number: int, rounds: int, rng: np.random.Generator) -> dict[str, Any]:
    word = "soft" if number else "hard"
    captions = [f"{word} flower {i}" for i in range(12)]
    captions[4] = NASTY
    written = [{"caption": c, "prompt": "", "seed": 0} for c in captions]
    write_rows(folder / f"{number}/captions/captions.jsonl", written)
    texts = ("prompt", "language_model", "image_model", "key")
    entries = tuple(
        Lineage(id=f"r{number}-{i}", round=number, caption=c, seed=i, **dict.fromkeys(texts, ""))
        for i, c in enumerate(captions)
    )
    (folder / f"{number}/images").mkdir()
    pictures = rng.integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    AnomalyPool(entries, pictures).save(folder / f"{number}/images/images.parquet")
    aside = [{"caption": "all black", "reason": "black: refused"}] if number == 1 else []
    write_rows(folder / f"{number}/images/set_aside.jsonl", aside)
    if rounds:
        judged = folder / ("1/evaluator" if number == 0 else f"{number}/scores") / "scores.jsonl"
        relative = [0.66638 + 0.11117 * i for i in range(len(entries))]
        rows = [{"id": e.id, "relative_distance": r, "hard": r < 1} for e, r in zip(entries, relative, strict=True)]
        write_rows(judged, rows)
    facts: dict[str, Any] = dict(round=number, generated=12, pool_size=12, captions=12, captions_asked=14, set_aside=0)
    facts |= (
        dict(hard_share_fresh=0.25, hard_share_pool=0.5)
        if rounds
        else dict.fromkeys(("hard_share_fresh", "hard_share_pool"))
    )
    tuned = dict(
        tuned=True, steps=60, train_pairs=33, validation_pairs=0, train_loss=0.51234, validation_loss=None, margin=None,
        accuracy=None, kl_to_base=1.25,
    )  # fmt: skip
    dpo = tuned if number == 1 else dict(tuned=False, why="no prompt has both <hard> and easy")
    return facts | (dict(dpo=dpo, entered=0, hard_share_before=0.5) if number else {}) | (
        dict(closed="none of its 12 pictures <was> hard") if number == 1 else {}
    )


def make_arm(
    folder: Path, auroc: float, seeds: int, split: bool, latent: bool, rng: np.random.Generator
) -> dict[str, Any]:
    for k in range(seeds):
        (folder / f"seed-{k}").mkdir(parents=True)
        np.save(folder / f"seed-{k}" / "scores.npy", (rng.gamma(2, 1, 64) + TEST).astype(np.float32))
    if latent:
        np.save(folder / "seed-0" / "latent.npy", (rng.normal(size=(64, 8)) + TEST[:, None]).astype(np.float16))
    figures = {"auroc": figure(*(auroc + 0.01 * k for k in range(seeds))), "aupr": figure(*[0.9] * seeds)}
    figures["fpr95"] = figure(*[0.4321] * seeds)
    return figures | ({"seen": figure(*[0.7] * seeds), "unseen": figure(*[0.6] * seeds)} if split else {})


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything: two seeds, two rounds, withheld kinds, a latent space; its report is written."""
    root = make_run(tmp_path_factory.mktemp("runs") / "a run é", data="my photos/été", unseen=0.5)
    write_report(root)
    return root


@pytest.fixture(scope="module")
def page(full: Path) -> Page:
    return Page((full / "report.html").read_text(encoding="utf-8"))


def assert_self_contained(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "http:" not in text and "https:" not in text and "@import" not in text
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base"})
    assert page.links and all(link.startswith(("data:image/", "#")) for link in page.links)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert path.stat().st_size < 5e6
    return page


def test_page_needs_nothing_but_itself(full: Path) -> None:
    """A link to a file or a server would break on a machine without them, or tell a server who reads the report."""
    page = assert_self_contained(full / "report.html")
    assert sum(link.startswith("data:") for link in page.links) == 10 + 3 * 12


def test_arms_table_shows_the_summary(full: Path, page: Page) -> None:
    """A report whose figures differ from summary.json's would be worse than none."""
    arms = json.loads((full / "summary.json").read_text())["arms"]
    rows = page.table("trained with")
    assert rows[0][1:] == ["AUROC", "known kinds", "withheld kinds", "AUPR", "FPR at 95 % TPR"]
    names = ("auroc", "seen", "unseen", "aupr", "fpr95")
    assert [row[1:] for row in rows[1:]] == [[percent(Estimate(**a[n])) for n in names] for a in arms.values()]
    assert [row[0] for row in rows[1:]] == [
        "no anomalies", "noise", "KKA (0)", "KKA (1)", "KKA (2)", "random real images",
    ]  # fmt: skip
    assert rows[1][1] == "50.5 ± 1.2"  # seeds 0.50 and 0.51; interval 0.0125


def test_headline_is_none_to_last_round_paired_by_seed(full: Path) -> None:
    """The first figures people read: arm none, the last round (not the first, nor real), and their difference."""
    shown = headline(read_run(full))
    assert shown is not None
    assert shown["before"].mean == pytest.approx(0.505)
    assert shown["after"].mean == pytest.approx(0.505 + 4 * 0.0617)
    assert shown["round"] == 2
    assert shown["gain"] == "+24.7"  # both seeds gain 4 * 6.17 points
    assert shown["gain_ci95"] == pytest.approx(0)


def test_rounds_and_tuning_tables(page: Page) -> None:
    """Rounds must show what they made, and a round that tuned nothing must say why."""
    assert page.table("round")[1] == ["0", "12", "12", "0", "25 %", "12", "12", "50 %"]
    assert page.table("round")[2] == ["1", "12", "12", "0", "25 %", "0", "12", "50 %"]
    tuning = next(t for t in page.tables if "KL to base" in t[0])
    assert tuning[1] == ["1", "60", "33", "0", "0.512", "–", "–", "–", "1.2", "–", "100 %", "– → –"]
    assert tuning[2] == ["2", "not tuned: no prompt has both <hard> and easy"]
    assert "Round 1 closed, as no new picture entered the pool: none of its 12 pictures <was> hard." in page.text
    assert "Round 2 closed, as no new picture entered the pool." in page.text  # stored before rounds said why
    assert "Round 2: 12 of 14 captions" in page.text


def test_captions_are_escaped_and_whole(full: Path, page: Page) -> None:
    """A caption is a stranger's text: it must not become markup, template code or mathematics, nor lose a letter."""
    text = (full / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and "<b>rosé" not in text
    assert page.titles.count(NASTY) == 3  # once a round
    assert html.escape(f"clematis {NASTY}", quote=False).replace('"', "&#34;") in text


def test_hard_and_easy_pictures(full: Path, page: Page) -> None:
    """0.66638 + 0.11117 i < 1 for i = 0 to 3: four hard ones a round; 0.99989 must not read 1.00."""
    assert page.text.count("Hard 4 of 4, nearest first") == 3
    assert page.text.count("Easy 8 of 8, nearest first") == 3
    assert page.text.count(" 0.99 ") == 3 and " 1.00 " not in page.text
    first = read_run(full).rounds[0]
    assert [p.relative for p in first.pictures][:1] == [0.66638]
    stored = AnomalyPool.load(full / "rounds/0/images/images.parquet").images
    assert np.array_equal(np.asarray(first.views([first.pictures[7]])[0][0]), stored[7])


def test_cost_and_files_set_aside(full: Path, page: Page) -> None:
    """Cost is summed by stage, memory is the largest; every file set aside is named with its reason."""
    rows = page.table("stage")
    assert rows[1] == ["Writing captions (Eq. 3)", "2", "3.8", "", "100", "24", "1,340", "–"]
    assert rows[2] == ["Training detectors", "1", "6.2", "", "200", "–", "–", "–"]
    assert rows[-1] == ["all", "", "10.0", "", "200", "24", "1,340", "–"]
    assert page.table("what")[1:] == [
        ["file", "bad <i>.png", "cut short"],
        ["picture of round 1", "all black", "black: refused"],
    ]
    assert cost_rows(Ledger({"rounds/9/new": NOTHING}))[0].label == "new"


def test_what_the_language_model_wrote(tmp_path: Path) -> None:
    """Of a model that is paid for: what was usable, the tokens and the money, by round and in all."""
    root = make_run(tmp_path / "run", rounds=1)
    stored = json.loads((root / "ledger.json").read_text())
    counts = dict(answers=20, unusable=3, duplicates=5, tokens=340, tokens_read=1500, cost=0.0123)
    stored["stages"]["rounds/0/captions"] |= counts
    stored["stages"]["rounds/1/captions"] |= counts | dict(cost=0.1, tokens_read=None)
    (root / "ledger.json").write_text(json.dumps(stored))
    table = assert_self_contained(write_report(root)).table("by round")
    assert table == [
        ["by round", "captions", "answers", "unusable", "like earlier ones", "tokens read", "tokens written", "cost"],
        ["0", "12", "20", "3", "5", "1,500", "340", "0.0123"],
        ["1", "12", "20", "3", "5", "–", "340", "0.1000"],
        ["all", "24", "40", "6", "10", "1,500", "680", "0.1123"],
    ]


def test_charts_take_the_pages_colours(full: Path) -> None:
    """A colour written into a chart would not follow the page into the dark."""
    text = (full / "report.html").read_text(encoding="utf-8")
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(drawings) == 3 + 6 + 1 + 2
    assert not any(re.search(r"#[0-9a-f]{6}\b", drawing) for drawing in drawings)
    assert all("aria-label" in drawing for drawing in drawings)


def test_report_is_written_whole_and_alike(full: Path) -> None:
    """Written again it is the same to the last byte, and leaves no half-written file behind."""
    before = (full / "report.html").read_bytes()
    assert write_report(full) == full / "report.html"
    assert (full / "report.html").read_bytes() == before
    assert not list(full.glob(".*"))


def test_figures_by_kind_and_the_gallery(tmp_path: Path) -> None:
    """What an inspector asks first: which kind is missed, and how the missed ones look, with map and mask."""
    root = make_run(tmp_path / "run", seeds=1)
    scores, bad = np.array([1, 2, 3, 0, 9], np.float32), np.array([False, False, False, True, True])
    kinds = ("good", "good", "good", f"a {NASTY}", "b")
    masks = np.zeros((5, 64, 64), bool)
    test = TestSet(images=np.full((5, 64, 64, 3), 90, np.uint8), is_anomaly=bad, kinds=kinds, masks=masks, masked=~bad)
    folder = RunFolder(root).detector("kka-2")
    folder.mkdir(parents=True)
    write_inspection(inspect(scores, bad, kinds, threshold=2.5), folder / "inspection", calibration=None)
    write_gallery(folder / GALLERY, Localising(), test, scores, 2.5, (0.0, 1.0))
    summary = json.loads((root / "summary.json").read_text())
    summary["inspection"] = json.loads((folder / "inspection.json").read_text())
    (root / "summary.json").write_text(json.dumps(summary))
    page = assert_self_contained(write_report(root))
    table = page.table("kind")
    assert [row[0] for row in table[1:3]] == ["good", "all defects"] and table[0][2:] == [
        "AUROC", "F1", "missed", "false alarms"
    ]  # fmt: skip
    assert table[2][4].startswith("50.0 (") and table[1][5].startswith("33.3 (") and table[2][5] == ""
    for said in ("Good, and the most anomalous", "Missed defects", "Found defects"):
        assert said in page.text
    whole = write_report(root).read_text(encoding="utf-8")
    assert (whole.count('alt="map of'), whole.count('alt="mask of')) == (5, 3), "no mask where none is known"


class Localising:
    """A detector that is of use for its maps alone."""

    def fit(self, normals: Images, anomalies: Images | None = None) -> "Localising":
        return self

    def score(self, images: Images) -> np.ndarray:
        return np.zeros(len(images), np.float32)

    def score_map(self, images: Images) -> np.ndarray:
        return np.zeros(images.shape[:3], np.float32)

    def save(self, path: Path) -> None: ...


def test_no_test_set_and_no_rounds(tmp_path: Path) -> None:
    """Photos without a test set and `--rounds 0`: no figures, no verdicts, and the page says so."""
    page = assert_self_contained(write_report(make_run(tmp_path / "run", rounds=0, seeds=1, test=False)))
    assert "AUROC without anomalies" not in page.text
    for said in (
        "measures nothing", "No figures: without labelled test pictures", "no evaluator judged the pictures",
        "Not judged 12 of 12", "No test pictures, so no scores", "No test pictures, so no map",
        "so the language model was not tuned", "Nothing: every file could be read",
    ):  # fmt: skip
        assert said in page.text, said


def test_single_seed_no_split_no_latent(tmp_path: Path) -> None:
    """One seed has no intervals; a detector without a latent space has no map; tiny pictures keep their pixels."""
    normals = np.full((9, 8, 8, 3), 77, np.uint8)
    root = make_run(tmp_path / "run", rounds=1, seeds=1, split=False, latent=False, normals=normals)
    text = write_report(root).read_text(encoding="utf-8")
    page = Page(text)
    assert page.table("trained with")[0][1:] == ["AUROC", "AUPR", "FPR at 95 % TPR"]
    assert page.table("trained with")[1][1:] == ["50.0", "90.0", "43.2"]
    assert "+18.5 points" in page.text and "One detector seed, hence no intervals" in page.text
    assert "This detector keeps no latent space" in page.text
    assert "Known and withheld" not in page.text
    assert 'class="pixelated"' in text and text.count("data:image/png") == 9


def test_samples_of_a_drawing_model(tmp_path: Path) -> None:
    """The sheet of a model that the run trained stands on the page, whole; without one there is no word of it."""
    root = make_run(tmp_path / "run", rounds=0, seeds=1, test=False)
    assert "The drawing model" not in Page(write_report(root).read_text(encoding="utf-8")).text
    (root / "samples.png").write_bytes(b"the bytes of a PNG")
    page = assert_self_contained(write_report(root))
    assert "The drawing model" in page.text
    assert f"data:image/png;base64,{base64.b64encode(b'the bytes of a PNG').decode()}" in page.links


def test_unfinished_run_is_refused(tmp_path: Path) -> None:
    """Without summary.json there is nothing to report: the error says what is missing."""
    with pytest.raises(UserError, match=r"expected a finished run with summary\.json"):
        write_report(tmp_path)


def test_printed_command_gives_the_same_configuration(tmp_path: Path) -> None:
    """Whoever copies the command line gets the run's own configuration, quoted, nested and flag options included."""
    from kka.cli import Run, parse

    settings: dict[str, Any] = dict(
        data="my photos/été", normal=("77", "pink rose"), describe="a photo of a 'bolt'", unseen=0.25, mode="add",
        language=LanguageSettings(load_in_4bit=True, dpo_learning_rate=1e-3),
        sad=DeepSADSettings(milestones=(0.125, 0.25)),
        detector="simplenet",
        detector_options=DetectorOptions(
            preset="cpu", set=("epochs=3", "noise=0.5"),
            backbone=BackboneSettings(
                name="mobilenetv2_100", weights="random", padding="same", mean=(0.5, 0.4, 0.3)
            ),
        ),
    )  # fmt: skip
    root = make_run(tmp_path / "my run", rounds=0, seeds=1, test=False, **settings)
    shown = commands(read_run(root))
    parsed = parse(shlex.split(shown["again"])[1:])
    assert isinstance(parsed, Run)
    assert parsed.config == RunConfig(rounds=0, seeds=1, initial=12, fresh=12, **settings)
    assert shown["resume"] == "kka run --out 'my run' --resume"


def test_printed_command_of_an_older_run_is_taken(tmp_path: Path) -> None:
    """A run from before milestones were shares has them in epochs, which the command line refuses."""
    from kka.cli import parse

    root = make_run(tmp_path / "run", rounds=0, seeds=1, test=False)
    stored = yaml.safe_load((root / "config.yaml").read_text())
    stored["sad"] |= {"epochs": 20, "milestones": [5]}
    (root / "config.yaml").write_text(yaml.safe_dump(stored))
    parsed = parse(shlex.split(commands(read_run(root))["again"])[1:])
    assert parsed.sad.falls == (5,)


def test_words_by_hand() -> None:
    """What tuning moved is read off these counts: each by hand, over captions that a reader can count himself."""
    first = ["A rose with soft petals"] * 4 + ["the rose, and white petals"] * 6
    second = ["soft petals of a rose"] * 8 + ["a white ROSE"] * 2
    hard = [["A rose with soft petals"] * 2, ["soft petals of a rose"] * 3]
    zero, one = words_by_round([first, second], hard)
    assert (zero.number, zero.after, zero.hard, zero.fell) == (0, 10, 2, ())
    counts = [(w.text, w.after, w.hard) for w in zero.rose]
    assert counts == [("petals", 10, 2), ("rose", 10, 2), ("white", 6, 0), ("soft", 4, 2)]  # no "with", "the", "and"
    assert (one.number, one.before, one.after, one.hard) == (1, 10, 10, 3)
    assert [(w.text, w.before, w.after, w.hard) for w in one.rose] == [("soft", 4, 8, 3)]
    assert [(w.text, w.before, w.after, w.hard) for w in one.fell] == [("white", 6, 2, 0), ("petals", 10, 8, 3)]
    z = (math.log(8.5 / 2.5) - math.log(4.5 / 6.5)) / math.sqrt(1 / 8.5 + 1 / 2.5 + 1 / 4.5 + 1 / 6.5)
    assert one.rose[0].z == pytest.approx(z) and one.fell[0].z == pytest.approx(-z)  # 6 and 2 of 10, as 4 and 8


def test_words_that_are_too_rare_or_of_an_empty_round() -> None:
    """Two captions are no trend; a round without captions must not divide by nothing."""
    _, one, two = words_by_round([["red rose"] * 3, ["blue rose"] * 2, []], [[], [], []])
    assert [w.text for w in one.rose] == [] and [w.text for w in one.fell] == ["red"]
    assert two.rose == () and [(w.text, w.before, w.after) for w in two.fell] == [("red", 3, 0), ("rose", 3, 0)]


def test_words_on_the_page(page: Page, tmp_path: Path) -> None:
    """Twelve captions a round, one of them the same: eleven said "hard" first, then "soft". Four pictures are hard."""
    rose = [table for table in page.tables if table[0][0] == "Rose"]
    assert [table[0][2:] for table in rose] == [["round 0", f"round {r}", "among 4 hard"] for r in (2, 1)]
    assert [table[1] for table in rose] == [["soft", "", "00 %", "1192 %", "4100 %"]] * 2
    fell = page.table("Fell")
    assert fell[1] == ["hard", "", "1192 %", "00 %", "00 %"]
    assert page.table("Words")[0] == ["Words", "", "round 0", "among 4 hard"]
    one = assert_self_contained(write_report(make_run(tmp_path / "one", rounds=1)))
    assert len([table for table in one.tables if table[0][0] == "Rose"]) == 1
    none = assert_self_contained(write_report(make_run(tmp_path / "none", rounds=0)))
    assert none.table("Words")[0] == ["Words", "", "round 0"] and ["flower", "", "1192 %"] in none.table("Words")


def test_mean_roc() -> None:
    """The mean of a perfect and a worst curve is 1/2 between the ends, and the area is the mean AUROC's."""
    labels = np.array([False, False, True, True])
    perfect, worst = np.array([0.0, 1, 2, 3]), np.array([3.0, 2, 1, 0])
    fpr, tpr = analysis.mean_roc([perfect, worst], labels)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.allclose(tpr[1:-1], 0.5)


def test_latent_map_special_cases() -> None:
    """Too few points, collapsed or broken embeddings have no map; the sample is bounded and keeps the normals."""
    assert analysis.tsne(np.ones((20, 4), np.float32)) is None
    assert analysis.tsne(np.random.default_rng(0).normal(size=(9, 4))) is None
    assert analysis.tsne(np.array([[np.inf, 0.0]] + [[0.0, 1.0]] * 19)) is None
    labels = np.arange(3000) >= 40
    shown = analysis.sample_points(labels)
    assert len(shown) == analysis.MAX_POINTS and (~labels[shown]).sum() == 40


def test_histogram_special_cases() -> None:
    """Scores that are all equal, or zero, have no logarithm and no range, and must still be drawn."""
    assert "<svg" in histogram(np.ones(64), TEST, log=True)
    assert not is_wide([np.array([0.0, 1, 100])])
    assert is_wide([np.array([1.0, 1, 1, 1, 100])])


def test_labels_do_not_overlap() -> None:
    """Names beside lines that end close together must stay readable and inside the chart."""
    assert apart([1.0, 1.5, 9.8, 9.9], gap=1.0, high=10.0) == pytest.approx([1, 2, 9, 10])
    assert apart([], gap=1.0, high=1.0) == []


def test_evenly_keeps_the_ends() -> None:
    """The nearest and the farthest picture must be among those shown."""
    assert analysis.evenly(range(101), 5) == [0, 25, 50, 75, 100]
    assert analysis.evenly([1, 2], 5) == [1, 2]


def test_nothing_heavy_is_imported_before_a_report_is_written() -> None:
    """`kka --help` must stay fast: drawing and templating come in with the first report."""
    code = "import sys, kka.cli, kka.report; print({'matplotlib', 'jinja2', 'sklearn', 'scipy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
