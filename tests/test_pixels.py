"""One way from a file to pixels: training, `kka score`, the export's check and the device see the same picture."""

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kka.deploy.export
from kka.common.images import read_picture
from kka.common.pixels import pixels, rgb, square
from kka.common.tiles import starts, tile
from kka.deploy.export import export_onnx, relative_difference
from kka.deploy.score import score_files
from kka.deploy.stored import open_detector
from kka.deploy.train import annotate
from kka.errors import UserError
from test_detector_contract import build, pictures

DEVICE = Path(__file__).parent.parent / "examples" / "device.py"


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Coarse noise: it has edges at the working size."""
    coarse = np.random.default_rng(height).integers(0, 256, (9, 9, channels), dtype=np.uint8)
    bands = [np.asarray(Image.fromarray(coarse[:, :, c]).resize((width, height))) for c in range(channels)]
    return np.stack(bands, axis=2)


def zoo(folder: Path) -> list[Path]:
    """Files as people have them, all of them odd."""
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    photo, opaque = Image.fromarray(picture(300, 400)), picture(90, 70, 4)
    palette = Image.fromarray(picture(80, 60)).quantize(32)
    grey16 = picture(70, 50, 1)[:, :, 0].astype(np.uint16)
    photo.save(folder / "turned.jpg", exif=exif)
    photo.rotate(90, expand=True).save(folder / "turned.png", exif=exif)
    Image.fromarray(opaque, "RGBA").save(folder / "rgba.png")
    palette.save(folder / "palette.png")
    palette.save(folder / "palette-transparent.png", transparency=3)
    palette.save(folder / "palette-alpha.png", transparency=bytes(range(0, 256, 8)))
    palette.save(folder / "palette.gif", transparency=5)
    Image.fromarray(opaque[:, :, 0]).save(folder / "grey.png")
    Image.fromarray(opaque[:, :, [0, 3]], "LA").save(folder / "grey-alpha.png")
    Image.fromarray(opaque[:, :, 0] > 99).save(folder / "bilevel.png")
    Image.fromarray(grey16 * 257).save(folder / "grey16.png")
    Image.fromarray(grey16 * 16).save(folder / "grey12.tif")
    Image.fromarray(picture(90, 80)).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(picture(3000, 4000)).save(folder / "large.jpg", quality=85)
    Image.fromarray(picture(17, 931)).save(folder / "strip.png")
    Image.fromarray(picture(40, 40)).save(folder / "small.webp")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module", params=[(65535, "crop"), (4095, "squash"), (65535, "pad")], ids=str)
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Detectors of files that use all of their 16 bits or 12, and of each way into a square; each with its model."""
    white, fit = request.param
    folder = tmp_path_factory.mktemp("kept") / "detector"
    build("sad").fit(pictures(10), pictures(4, seed=1)).save(folder)
    annotate(folder, pictures(5, seed=2), white=white, **({} if fit == "crop" else {"fit": fit}))
    facts = export_onnx(open_detector(folder), folder / "model.onnx")
    assert (facts.white, facts.fit) == (white, fit)
    return folder


def test_the_device_scores_as_kka_does(kept: Path, tmp_path: Path) -> None:
    """A detector that scores otherwise on the device has another threshold there than the one that was promised."""
    files = zoo(tmp_path / "zoo")
    scored = score_files(open_detector(kept), files)
    assert [row.file for row in scored.rows] == files and not scored.set_aside
    command = [sys.executable, str(DEVICE), str(kept / "model.onnx"), *map(str, files)]
    code = f"import sys, runpy; sys.argv = {command[1:]!r}; sys.path[:0] = []; import numpy\n"
    code += f"found = runpy.run_path({str(DEVICE)!r})['Model']({str(kept / 'model.onnx')!r})\n"
    code += f"print([found(file)[0] for file in {list(map(str, files))!r}])\n"
    code += "assert not any(name.startswith(('kka', 'torch')) for name in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    device = np.array(json.loads(done.stdout), np.float32)
    ours = np.array([row.score for row in scored.rows], np.float32)
    assert relative_difference(ours, device) <= 1e-4, list(zip(files, ours, device, strict=True))
    assert len(np.unique(ours)) == len(files), "each is another picture"
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.split("\t")[0] for line in printed] == list(map(str, files))
    beyond = {Path(item.path).name for item in scored.clipped}
    assert beyond == (set() if open_detector(kept).white == 65535 else {"grey16.png"})


def test_the_device_file_is_short_and_holds_our_very_function() -> None:
    """A second version of one function is another function, sooner or later."""
    text = DEVICE.read_text(encoding="utf-8")
    assert all(inspect.getsource(ours) in text for ours in (rgb, pixels, square, starts, tile))
    assert len(text.splitlines()) <= 105
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(node, "module", None) or node.names[0].name for node in nodes}
    assert modules == {"sys", "collections.abc", "numpy", "onnxruntime", "PIL"}


def bilinear(image: Image.Image, size: int | None, white: int, fit: str) -> np.ndarray:
    return pixels(image.resize((size, size), Image.Resampling.BILINEAR) if size else image, size, white, fit)


def unscaled(image: Image.Image, size: int | None, white: int, fit: str) -> np.ndarray:
    return pixels(image, size, 2 * white, fit)


def unturned(image: Image.Image, size: int | None, white: int, fit: str) -> np.ndarray:
    image.getexif().clear()
    return pixels(image, size, white, fit)


def otherwise_fitted(image: Image.Image, size: int | None, white: int, fit: str) -> np.ndarray:
    return pixels(image, size, white, {"crop": "squash", "squash": "pad", "pad": "crop"}[fit])


@pytest.mark.parametrize("otherwise", [bilinear, unscaled, unturned, otherwise_fitted])
def test_the_exports_check_sees_another_way_to_pixels(
    otherwise: Callable[..., np.ndarray], kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normals kept at the working size have the same pixels by any way: a check on them alone sees nothing."""

    def device(path: Path, files: list[Path]) -> list[list[np.ndarray]]:
        found = open_detector(kept)
        return [[otherwise(Image.open(file), found.size, found.white, found.fit)] for file in files]

    monkeypatch.setattr(kka.deploy.export, "device_pixels", device)
    with pytest.raises(UserError, match="scores differ from PyTorch's"):
        export_onnx(open_detector(kept), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_jpeg_and_its_picture_as_png_are_one(tmp_path: Path) -> None:
    """What the file's format decides is what a camera's frame cannot follow."""
    Image.fromarray(picture(900, 1200)).save(tmp_path / "a.jpg")
    Image.open(tmp_path / "a.jpg").save(tmp_path / "a.png")
    a, b = (read_picture(tmp_path / name, 64) for name in ("a.jpg", "a.png"))
    assert np.array_equal(a.pixels, b.pixels)
