"""A kept detector as one ONNX graph, and the resize that is the same in PyTorch and there."""

import builtins
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import kka.deploy.export
from kka.deploy.calibrate import Calibration
from kka.deploy.export import export_onnx, relative_difference, session
from kka.deploy.score import read_images
from kka.deploy.stored import open_detector
from kka.deploy.train import annotate
from kka.detectors import fit_detector
from kka.detectors.graph import resized
from kka.errors import UserError
from test_detector_contract import NAMES, build, captions, pictures


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 160))
def test_resize_is_interpolate(height: int, width: int, size: int) -> None:
    """Two matrices in the place of F.interpolate: other values would be another detector than the published one."""
    x = torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(size))
    expected = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    assert (resized(x, size) - expected).abs().max() < 2e-5  # fp32 in another order; a grey level is 4e-3


def kept_detector(name: str, folder: Path, threshold: float | None = None) -> Path:
    """A detector trained for a moment, as `kka train` keeps it."""
    detector = fit_detector(build(name), pictures(10), pictures(4, seed=1), captions=captions(10))
    detector.save(folder)
    if threshold is None:
        threshold = float(np.sort(detector.score(pictures(5, seed=2)))[2])
    found = Calibration(threshold=threshold, fpr=0.1, held_out=9, promised=0.1)
    annotate(folder, pictures(5, seed=2), calibration=found)
    return folder


@pytest.fixture(scope="module")
def sad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept_detector("sad", tmp_path_factory.mktemp("sad") / "detector")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*learns from normals alone")
@pytest.mark.parametrize("name", NAMES)
def test_every_detector_goes_to_the_edge(name: str, tmp_path: Path) -> None:
    """The scores of ONNX Runtime are the detector's, for any number of images; the verdict and the facts are there."""
    folder = kept_detector(name, tmp_path / "detector")
    kept = open_detector(folder)
    facts = export_onnx(kept, tmp_path / "model.onnx")
    assert facts.largest_relative_difference <= 1e-4 and facts.images == 5
    assert json.loads((tmp_path / "model.json").read_text()) == json.loads(json.dumps(dataclasses.asdict(facts)))
    assert facts.bytes == (tmp_path / "model.onnx").stat().st_size and facts.latency_ms > 0
    runtime = session(tmp_path / "model.onnx")
    (given,) = runtime.get_inputs()
    assert (given.name, given.type, given.shape[1:]) == ("pixels", "tensor(uint8)", [32, 32, 3])
    assert kept.calibration is not None
    for n in (1, 7):
        images = pictures(n, seed=20)
        score, verdict = runtime.run(["score", "anomalous"], {"pixels": images})
        assert relative_difference(kept.detector.score(images), score) <= 1e-4
        assert verdict.dtype == bool and (verdict == (score > np.float32(kept.calibration.threshold))).all()
    found = runtime.get_modelmeta().custom_metadata_map
    assert (found["detector"], float(found["threshold"]), found["fpr"]) == (name, kept.calibration.threshold, "0.1")
    assert {entry.version for entry in onnx.load(tmp_path / "model.onnx").opset_import if not entry.domain} == {18}


def test_a_file_by_the_recipe_in_the_metadata(sad: Path, tmp_path: Path) -> None:
    """The graph takes pixels at one size: by the words that travel with it, a file scores as `kka score` has it."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (47, 90, 4), dtype=np.uint8), "RGBA")
    picture.save(tmp_path / "a.png")
    kept = open_detector(sad)
    export_onnx(kept, tmp_path / "model.onnx")
    recipe = session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map["from_file"]
    assert recipe.startswith("Pillow: ") and "ImageOps.fit(image, (32, 32), Image.Resampling.BICUBIC)" in recipe
    white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    pixels = np.asarray(ImageOps.fit(white, (32, 32), Image.Resampling.BICUBIC))[None]
    (score,) = session(tmp_path / "model.onnx").run(["score"], {"pixels": pixels})
    assert relative_difference(kept.detector.score(read_images([tmp_path / "a.png"], kept)), score) <= 1e-4


def test_without_a_threshold(sad: Path, tmp_path: Path) -> None:
    """A detector that a run kept: a score, and no verdict that means nothing."""
    kept = open_detector(sad)
    object.__setattr__(kept, "calibration", None)
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    facts = export_onnx(kept, tmp_path / "model.onnx", [tmp_path / "a.png"])
    assert facts.threshold is None and facts.images == 1 and facts.checked_on == "the images named"
    runtime = session(tmp_path / "model.onnx")
    assert [output.name for output in runtime.get_outputs()] == ["score"]
    assert "threshold" not in runtime.get_modelmeta().custom_metadata_map


def test_a_graph_that_scores_otherwise_is_not_written(
    sad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that disagrees with the detector must not reach the edge, nor leave its half behind."""
    kept = open_detector(sad)
    score = kept.detector.score
    monkeypatch.setattr(kept.detector, "score", lambda images: score(images) * np.float32(1.001))
    with pytest.raises(UserError, match=r"differ from PyTorch's by 0\.001"):
        export_onnx(kept, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_missing_packages_name_the_extra(sad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime is optional: without it a sentence, not an ImportError."""

    def missing(name: str) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return builtins.__import__(name)

    monkeypatch.setattr(kka.deploy.export, "import_module", missing)
    with pytest.raises(UserError, match=r"onnxruntime is missing; pip install 'kka\[onnx\]'"):
        export_onnx(open_detector(sad), tmp_path / "model.onnx")


def test_relative_difference_by_hand() -> None:
    """A score that happens to be zero must not blow the difference up; a large one must not hide a small one's."""
    a, b = np.array([4.0, 0.0, -2.0], np.float32), np.array([4.0, 0.1, -2.0], np.float32)
    assert relative_difference(a, b) == pytest.approx(0.1 / 2, rel=1e-6)
    assert relative_difference(a, np.array([5.0, 0.0, -2.0], np.float32)) == pytest.approx(0.25)
