"""A person's own detector, image model and language model, by their classes' paths: examples/ as they are written."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kka.cli import main
from kka.common.own import NAMED, class_path, from_texts, is_class_path
from kka.deploy.train import annotate
from kka.detectors import build_detector, load_detector
from kka.errors import UserError
from kka.imaging import build_image_model, check_image_model
from kka.language import build_language_model, check_language_model
from kka.settings.backbone import BackboneSettings
from kka.settings.drawing import DrawingSettings
from kka.settings.language import LanguageSettings

EXAMPLES = Path(__file__).parent.parent / "examples"
OWN = ("own_detector", "own_image_model", "own_language_model")
MODELS = ["--lm", "own_language_model:Templates", "--images", "own_image_model:Discs"]
QUICK = [
    "--rounds", "1", "--initial", "24", "--fresh", "12", "--per-round", "6", "--representatives", "2", "--seeds", "1",
    "--autoencoder-epochs", "1", "--sad.epochs", "1", "--sad.milestones", "0.5",
]  # fmt: skip
"""So that a run takes seconds; added to a command as it is written."""


def pictures(n: int, seed: int = 0, size: int = 64) -> Any:
    return np.random.default_rng(seed).integers(60, 200, (n, size, size, 3), dtype=np.uint8)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a person works in, with the examples and photos; nothing of it is on the path or imported yet."""
    folder = tmp_path / "home"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "photos").mkdir()
    for i, image in enumerate(pictures(14)):
        Image.fromarray(image).save(folder / "photos" / f"{i:02}.png")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(folder))])
    monkeypatch.setenv("KKA_CACHE", str(tmp_path / "cache"))
    for name in [*OWN, "mine", "broken"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Any:
    """No test finds the modules of another."""
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        if name.partition(".")[0] in (*OWN, "mine", "broken"):
            del sys.modules[name]


def commands(name: str) -> list[list[str]]:
    """The commands in an example's first lines."""
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    return [shlex.split(line)[1:] for line in re.findall(r"^    (kka .*)$", text, re.MULTILINE)]


def test_a_detector_from_run_to_export(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the example says: a run, a training, scores and an export, in one folder, and no script around it."""
    run, train, score, export = commands("own_detector")
    assert main([*run, *QUICK, *MODELS]) == 0
    kept = json.loads(next((home / "runs/x/kept").glob("*/detector/detector.json")).read_text())
    assert kept["detector"] == "own_detector:MeanColour" and kept["image_size"] == [64, 64]
    arm = json.loads(next((home / "runs/x/arms").glob("kka-1/seed-0/detector/detector.json")).read_text())
    assert arm["detector"] == "own_detector:MeanColour", "that of a comparison too"
    assert main([*train, "--fpr", "0.3", "--held-out", "0.25"]) == 0
    assert load_detector(home / "mine").likeness == 0.5  # type: ignore[attr-defined]
    capsys.readouterr()
    assert main([*score, "--out", "scores.csv"]) == 0
    assert "anomalous above" in capsys.readouterr().out
    assert len((home / "scores.csv").read_text().splitlines()) == 15
    assert main(export) == 0 and (home / "mine/model.onnx").is_file()


@pytest.mark.parametrize("name", OWN[1:])
def test_models_in_a_run(name: str, home: Path) -> None:
    """As the examples say, with the settings that they name; and the run goes on after a kill."""
    (run,) = commands(name)
    photos = ["--data", "./photos", "--describe", "a photo of a flower"]
    others = [text for pair in zip(MODELS[::2], MODELS[1::2], strict=True) if pair[0] not in run for text in pair]
    assert main([*run, *photos, *others, *QUICK]) == 0
    out = home / run[-1]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["models"]["images"] == "own_image_model:Discs"
    assert summary["models"]["language"] == "own_language_model:Templates"
    captions = (out / "rounds/0/captions/captions.jsonl").read_text()
    assert ("lily" in captions) == (name == "own_language_model")
    (out / "summary.json").unlink()
    assert main(["run", "--out", str(out), "--resume"]) == 0 and (out / "summary.json").is_file()


def test_the_constructor_gets_what_it_takes(home: Path) -> None:
    """`progress` and `seed` where there is room for them; settings by name; nothing is left aside in silence."""
    detector: Any = build_detector("own_detector:MeanColour", overrides=["likeness=2"], seed=4, progress=print)
    assert (detector.seed, detector.likeness) == (4, 2.0)
    model: Any = build_image_model("own_image_model:Discs", settings=DrawingSettings(size=48, set=("blur=1",)))
    assert (model.size, model.blur) == (48, 1.0) and model.identity == "discs-1-48-1.0"
    check_image_model("own_image_model:Discs", settings=DrawingSettings(size=48))
    with pytest.raises(UserError, match=r"drawing\.steps: the constructor of .*Discs takes size, blur; got 9"):
        check_image_model("own_image_model:Discs", settings=DrawingSettings(steps=9))
    with pytest.raises(UserError, match=r"unknown setting of own_image_model:Discs: expected one of blur, size; got"):
        check_image_model("own_image_model:Discs", settings=DrawingSettings(set=("blurr=1",)))
    with pytest.raises(UserError, match=r"expected blur to be .*number.*; got 'x'"):
        check_image_model("own_image_model:Discs", settings=DrawingSettings(set=("blur=x",)))
    with pytest.raises(UserError, match=r"drawing\.set: garden has only .*set is for a class of your own"):
        check_image_model("garden", settings=DrawingSettings(set=("blur=1",)))
    writer: Any = build_language_model(
        "own_language_model:Templates", settings=LanguageSettings(set=("things=a,b",)), worked=(), progress=None
    )
    assert writer.things == ("a", "b")
    with pytest.raises(UserError, match=r"language\.set: garden has only .*set is for a class of your own"):
        check_language_model("garden", settings=LanguageSettings(set=("things=a",)))


@pytest.mark.parametrize(
    ("code", "path", "told"),
    [
        ("", "nowhere:Mine", "unknown detector: expected one of .*or your own class as package.module:Class; got "
         "'nowhere:Mine', and there is no module 'nowhere', neither installed"),
        ("class Other: pass", "mine:Mine", r"expected a class Mine in mine \(.*mine\.py\); it has Other\. Name one"),
        ("class Mine:\n def fit(self): pass\n def save(self): pass", "mine:Mine",
         r"mine:Mine to have the methods fit, score, save, load; it lacks score, load\. examples/own_detector"),
        ("def Mine(): pass", "mine:Mine", "expected mine:Mine to be a class; got function"),
        ("import no_such_package\n", "mine:Mine", r"importing mine for mine:Mine failed: .*no_such_package.*line 1"),
        ("x = (", "mine:Mine", "importing mine for mine:Mine failed: SyntaxError"),
        ("class Mine:\n def __init__(self, *, radius): pass\n" + "".join(
            f" def {name}(self, *a): pass\n" for name in ("fit", "score", "save", "load")),
         "mine:Mine", "its constructor needs radius; give them as name=value"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_once(
    code: str, path: str, told: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any work, in words: what was expected of the class, and where it was looked for."""
    (home / "mine.py").write_text(code)
    assert main(["train", "--detector", path, "--data", "./photos", "--out", "d"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(told, said), said
    assert "Traceback" not in said and not (home / "d").exists()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return images.mean(axis=(1, 2))", r"score to give 2 numbers for 2 images.*got float64 of shape \(2, 3\)"),
        ("return ['a'] * len(images)", "got <U1 of shape"),
    ],
)
def test_a_score_of_another_shape_is_refused(
    body: str, told: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would end in a traceback of NumPy's somewhere in the figures."""
    (home / "mine.py").write_text(
        f"class Mine:\n    def fit(self, normals, anomalies=None): return self\n    def score(self, images): {body}\n"
        "    def save(self, path): pass\n    @classmethod\n    def load(cls, path): return cls()\n"
    )
    assert main(["train", "--detector", "mine:Mine", "--data", "./photos", "--out", "d"]) == 2
    assert re.search(told, " ".join(capsys.readouterr().err.split()))


def test_an_image_model_without_identity_is_refused(home: Path) -> None:
    """Its pictures would be taken for those of another model from the cache."""
    (home / "mine.py").write_text("class Mine:\n    def draw(self, captions, *, seeds): pass\n")
    with pytest.raises(UserError, match="expected an identity, a text that names the model"):
        build_image_model("mine:Mine")


def test_a_card_alone_runs_no_code_of_the_working_folder(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A detector travels with its card. A module that came with it must not run because somebody scores with it."""
    folder = home / "theirs"
    folder.mkdir()
    (folder / "detector.json").write_text(json.dumps({"detector": "broken:Mine", "image_size": [64, 64]}))
    (home / "broken.py").write_text("from pathlib import Path\nPath('ran').touch()\nclass Mine: pass\n")
    run = home / "run"
    for command in (["score", "--detector-dir", "theirs", "photos"], ["export", "--detector-dir", "theirs"]):
        assert main(command) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "named by a file alone" in said and "--detector broken:Mine" in said
    run.mkdir()
    (run / "config.yaml").write_text("data: garden\nlm: broken:Mine\n")
    (run / "run.json").write_text("{}")
    assert main(["run", "--out", "run", "--resume"]) == 2
    assert "--lm broken:Mine" in " ".join(capsys.readouterr().err.split())
    assert not (home / "ran").exists() and not (tmp_path / "cache" / NAMED).exists()
    assert main(["score", "--detector-dir", "theirs", "--detector", "broken:Mine", "photos"]) == 2  # lacks methods
    assert (home / "ran").exists(), "named, it is imported"


def test_named_once_is_enough(home: Path, tmp_path: Path) -> None:
    """In a fresh process `kka score` needs no more than the folder, as with ours; elsewhere the module is missing."""
    detector = build_detector("own_detector:MeanColour").fit(pictures(8))
    detector.save(home / "d")
    annotate(home / "d", pictures(8), of=detector)
    command = [sys.executable, "-P", "-W", "ignore", "-m", "kka.cli", "score", "--detector-dir", str(home / "d"),
               str(home / "photos")]  # fmt: skip
    done = subprocess.run(command, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0 and "14 images" in done.stdout, done.stderr
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "there is no module 'own_detector'" in " ".join(done.stderr.split())


def test_the_working_folder_stands_last(home: Path) -> None:
    """A file there named as a library is must not take its place."""
    (home / "yaml.py").write_text("raise SystemExit('taken')")
    build_detector("own_detector:MeanColour")
    assert sys.path[-1] == str(home) and sys.path.count(str(home)) == 1


def test_in_an_experiment(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    """Rows beside ours; another experiment, and one of ours by this way, are refused in words."""
    asked = ["experiment", "table2", "--dry-run", "--dataset", "garden", "--seeds", "1", "--scale", "smoke"]
    assert main([*asked, "--detector", "own_detector:MeanColour", "--only", "own_detector:MeanColour"]) == 0
    assert "/own_detector:MeanColour/none/0" in capsys.readouterr().out
    assert main(["experiment", "table3", "--dry-run", "--detector", "own_detector:MeanColour"]) == 2
    assert "stand beside ours in table2" in " ".join(capsys.readouterr().err.split())
    assert main([*asked, "--detector", "sad"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "expected your own class as package.module:Class, or anomalib:<model>; got 'sad'" in told


def test_a_cell_of_an_experiment(home: Path) -> None:
    """The detector is built as it is unasked, and its figure knows the code that it was made with."""
    from kka.experiments.engine.cells import Cell
    from kka.experiments.engine.compute import build
    from kka.experiments.engine.place import Place
    from kka.experiments.engine.provenance import settings_of

    cell = Cell(dataset="garden", normal="0", detector="own_detector:MeanColour", arm="none", seed=0, scale="smoke")
    place = Place(data=home, work=home / "work", backbone=BackboneSettings())
    assert build(cell, place).likeness == 1.0  # type: ignore[attr-defined]
    before = settings_of(cell, place)
    with (home / "own_detector.py").open("a") as file:
        file.write("\n# another line\n")
    assert settings_of(cell, place) != before


def test_paths_of_classes() -> None:
    """`hf:gpt2` has the form of a path too: what is ours by name stays ours."""
    assert is_class_path("a.b:C") and is_class_path("a:B.C") and not is_class_path("a/b:C") and not is_class_path("a:")
    assert is_class_path("hf:gpt2") and not is_class_path("hf:gpt2", ("hf",))
    assert class_path(DrawingSettings()) == "kka.settings.drawing:DrawingSettings"

    class Local:
        def __init__(self, *, n=1, names=("x",), flag=False, free=None): ...

    assert class_path(Local()) is None
    texts = ["n=3", "names=a,b", "flag=true", "free=[1, 2]"]
    assert from_texts(Local, texts, of="it") == {"n": 3, "names": ("a", "b"), "flag": True, "free": [1, 2]}
