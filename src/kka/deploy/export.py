"""A kept detector as one ONNX graph, from pixels to score and verdict, checked in ONNX Runtime on real images.

Input: "pixels", uint8 (n, h, w, 3), RGB, n free, h and w those of the training images or tiles. Outputs: "score",
fp32 (n,), higher = more anomalous, and with a threshold "anomalous", bool (n,). Name, threshold and false-positive rate
also stand in the model's metadata, and how a file becomes those pixels: another resizing shifts the scores. So the
check begins with files: as `examples/device.py` reads them, the model must score as `kka score` does.
"""

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor, nn

from kka.common.files import replacing
from kka.common.hold import held
from kka.common.metrics import anomalous
from kka.common.numbers import DAMAGED, require_finite
from kka.common.pixels import WHITE, pixels, rgb
from kka.common.tiles import corners, photo_score, tile
from kka.deploy.score import score_files
from kka.deploy.stored import StoredDetector
from kka.errors import UserError
from kka.protocols import Exports, Images, Scores
from kka.settings.fit import Fit

OPSET = 18
TOLERANCE = 1e-4
"""Largest relative difference of a score between ONNX Runtime and PyTorch."""
CHECK_BATCH = 4
FROM_FILE = (
    "Pillow: the whole JPEG, no draft; ImageOps.exif_transpose; 16-bit grey: 0 black, {white} white; transparency over "
    "white; RGB; {square}; as code: examples/device.py"
)
SQUARE: dict[Fit, str] = {
    "crop": "ImageOps.fit(image, ({size}, {size}), Image.Resampling.BICUBIC), the central square",
    "squash": "image.resize(({size}, {size}), Image.Resampling.BICUBIC), whatever its shape",
    "pad": "its longer side resized to {size}, Image.Resampling.BICUBIC, in the middle of a square of (124, 116, 104)",
    "tile": "cut into tiles of {size} pixels from edge to edge, neighbours with at least the share {overlap} of a side "
    "in common; a smaller photo continued by its mirror image; the photo has the highest score of its tiles, and is "
    "anomalous where one is",
}
"""How a file becomes the graph's input, as kka.common.pixels does it: the graph takes pixels at one size."""
LATENCY_SECONDS = 5.0
LATENCY_SQUARES = 8


def from_file(kept: StoredDetector) -> str:
    """How a file becomes the graph's input, in words."""
    return FROM_FILE.format(white=kept.white, square=SQUARE[kept.fit].format(size=kept.size, overlap=kept.overlap))


class Deployed(nn.Module):
    """A detector's graph, with the verdict beside the score."""

    def __init__(self, graph: nn.Module, threshold: float | None) -> None:
        super().__init__()
        self.detector, self.threshold = graph, threshold  # torch.fx takes the name "graph" for its own

    def forward(
        self, pixels: UInt8[Tensor, "b h w 3"]
    ) -> tuple[Float[Tensor, "b"], Bool[Tensor, "b"]] | Float[Tensor, "b"]:
        score = self.detector(pixels).float()
        return score if self.threshold is None else (score, score > self.threshold)


@dataclass(frozen=True, kw_only=True)
class ExportFacts:
    """What an exported model is, and how it compares with the detector."""

    detector: str
    image_size: tuple[int, int]
    threshold: float | None
    fpr: float | None
    opset: int
    white: int
    """The value of 16-bit grey files that is white."""
    fit: Fit
    """How a file becomes a square."""
    images: int
    """On how many image files its scores were compared, besides two odd ones made of the first."""
    largest_relative_difference: float
    from_file: str
    """How to read a file into its pixels."""
    checked_on: str
    bytes: int
    latency_ms: float
    """Median of one image on one CPU thread."""
    torch: str
    onnxruntime: str


def export_onnx(kept: StoredDetector, out: Path, check: Sequence[Path] = ()) -> ExportFacts:
    """Write the model to `out` and what was measured to the same name with .json; returns that.

    Args:
        check: Image files to compare on; none: the normals kept beside the detector.

    Raises:
        UserError: a missing package, no images to check on, a graph that cannot be exported, scores that differ or
            are no numbers.
    """
    require_packages()
    require_model_file(out)
    with held(out):
        return _export(kept, out, check)


def require_model_file(out: Path) -> None:
    """Raises UserError where `out` is no name for a model: its facts are written to the same name with .json."""
    if out.suffix.lower() == ".json" or out.is_dir():
        what = "a folder" if out.is_dir() else "the name of the facts that are written beside the model"
        raise UserError(f"export: expected a file such as {out.with_suffix('.onnx')} for --out; {out} is {what}")


def _export(kept: StoredDetector, out: Path, check: Sequence[Path]) -> ExportFacts:
    files = list(check) or list(kept.check)
    if not files:
        raise UserError(f"export: no images to check the model on in {kept.folder}; name some: --check IMAGES")
    with tempfile.TemporaryDirectory(prefix="kka-export-") as scratch:
        return _exported(kept, out, files, Path(scratch), named=bool(check))


def _exported(kept: StoredDetector, out: Path, files: Sequence[Path], scratch: Path, *, named: bool) -> ExportFacts:
    if not isinstance(kept.detector, Exports):
        raise UserError(f"export: {kept.name} has no graph() from pixels to score; such a detector cannot be exported")
    threshold = kept.threshold
    scored = score_files(kept, files)  # by the detector itself, which gave the threshold, whatever graph() may be
    odd = score_files(kept, odd_files(scored.rows[0].file, kept, scratch))
    rows = (*scored.rows, *odd.rows)
    expected = np.array([row.score for row in rows], np.float32)
    model = Deployed(kept.detector.graph().cpu(), threshold).eval()
    with replacing(out) as work, replacing(out.with_suffix(".json")) as beside:
        _write(model, work, kept)
        difference = _compared(work, device_pixels(work, [row.file for row in rows]), expected, threshold)
        squares = [next(iter(found)) for found in device_pixels(work, [row.file for row in rows[:LATENCY_SQUARES]])]
        facts = ExportFacts(
            detector=kept.name, image_size=(kept.size, kept.size), threshold=threshold,
            fpr=kept.rate, opset=OPSET, white=kept.white, fit=kept.fit,
            images=len(scored.rows), largest_relative_difference=difference, from_file=from_file(kept),
            checked_on="the images named" if named else "normals kept with the detector",
            bytes=work.stat().st_size, latency_ms=latency(work, np.stack(squares)), torch=torch.__version__,
            onnxruntime=import_module("onnxruntime").__version__,
        )  # fmt: skip
        beside.write_text(json.dumps(dataclasses.asdict(facts), indent=1), encoding="utf-8")
    return facts


def require_packages() -> None:
    """Raises UserError where the packages of the extra are missing."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(package)
        except ImportError as error:
            raise UserError(f"export: the package {package} is missing; pip install 'kka[onnx]'") from error


def _write(model: Deployed, path: Path, kept: StoredDetector) -> None:
    """The graph by PyTorch's exporter, and the metadata."""
    import onnx

    example = torch.zeros(2, kept.size, kept.size, 3, dtype=torch.uint8)
    names = ["score"] if model.threshold is None else ["score", "anomalous"]
    try:
        program = torch.onnx.export(
            model, (example,), dynamo=True, opset_version=OPSET, input_names=["pixels"], output_names=names,
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},), verbose=False,
        )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        why = str(error.__cause__ or error).strip().partition("\n")[0]
        raise UserError(f"export: {kept.name} cannot be written as ONNX: {why}") from error
    if program is None:
        raise RuntimeError("the exporter gave no program")
    proto = program.model_proto
    if not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise UserError(f"export: {kept.name} cannot be written as ONNX for any number of images: its code fixes one")
    facts = {"detector": kept.name, "image_size": f"{kept.size}x{kept.size}", "score": "higher = more anomalous"}
    facts |= {"white": str(kept.white), "fit": kept.fit, "from_file": from_file(kept)}
    if kept.fit == "tile":
        facts |= {"overlap": repr(kept.overlap)}
    facts |= {n: repr(float(v)) for n, v in (("threshold", kept.threshold), ("fpr", kept.rate)) if v is not None}
    onnx.helper.set_model_props(proto, facts)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)


def odd_files(file: Path, kept: StoredDetector, folder: Path) -> list[Path]:
    """Two files of `file` in `folder`, for what normals kept at the working size cannot show: a larger JPEG that EXIF
    turns, and 16-bit grey up to the detector's white and beyond."""
    white = kept.white
    with Image.open(file) as opened:
        picture = Image.fromarray(pixels(opened, min(kept.size, 256), white))
    exif = Image.Exif()
    exif[0x0112] = 6  # its orientation
    wide = picture.resize((5 * picture.width, 4 * picture.height), Image.Resampling.BICUBIC)
    wide.save(folder / "turned.jpg", quality=95, exif=exif)
    grey = np.asarray(picture.convert("L")).astype(np.int64) * white // 200
    Image.fromarray(grey.clip(0, WHITE).astype(np.uint16)).save(folder / "grey.png")
    return [folder / "turned.jpg", folder / "grey.png"]


def device_pixels(path: Path, files: Sequence[Path]) -> Iterator[Iterable[np.ndarray]]:
    """Each file as a device reads it, which has nothing but the model's file: size, white and fit are in its metadata.
    One square, or its tiles, cut as they are asked for."""
    facts = session(path).get_modelmeta().custom_metadata_map
    size, white = int(facts["image_size"].partition("x")[0]), int(facts["white"])
    for file in files:
        with Image.open(file) as opened:
            if facts["fit"] == "tile":
                photo = rgb(opened, white)
                places = corners(photo.size, size, float(facts["overlap"]))
                yield (tile(photo, x, y, size) for x, y in places)
            else:
                yield [pixels(opened, size, white, facts["fit"])]


def session(path: Path) -> Any:
    """ONNX Runtime on one CPU thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def relative_difference(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"]) -> float:
    """The largest of |a_i - b_i| / max(|a_i|, the mean of |a|): a score that happens to lie at zero has no scale."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = np.maximum(np.abs(a), max(float(np.abs(a).mean()), 1e-12))
    return float((np.abs(a - b) / scale).max())


def _compared(
    path: Path, files: Iterable[Iterable[np.ndarray]], expected: Scores, threshold: float | None
) -> float:
    """The largest relative difference of the file's scores from the detector's own;
    raises UserError where they or the verdicts differ. `files`: the squares of each."""
    runtime = session(path)
    found, verdicts = [], []
    for squares in files:
        outputs = [runtime.run(None, {"pixels": np.stack(batch)}) for batch in _batches(squares, CHECK_BATCH)]
        own = np.concatenate([output[0] for output in outputs])
        require_finite(own, "export: the model's scores", DAMAGED)
        found.append(photo_score(own))
        if threshold is not None:
            verdicts.append(bool(np.concatenate([output[1] for output in outputs]).any()))
    scores = np.array(found, np.float32)
    difference = relative_difference(expected, scores)
    if not difference <= TOLERANCE:
        raise UserError(
            f"export: ONNX Runtime's scores differ from PyTorch's by {difference:.2g} (relative) on {len(scores)} "
            f"images; at most {TOLERANCE:g} is allowed, so no model was written"
        )
    if threshold is not None and (np.array(verdicts) != anomalous(scores, threshold)).any():
        raise UserError("export: the graph's verdicts do not follow from its scores; no model was written")
    return difference


def _batches(squares: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    left = iter(squares)
    while batch := list(islice(left, size)):
        yield batch


def latency(path: Path, images: Images) -> float:
    """Median milliseconds an image: ONNX Runtime, one thread, one image at a time."""
    runtime = session(path)
    times: list[float] = []
    stop = time.perf_counter() + LATENCY_SECONDS
    while len(times) < 53 and (len(times) < 8 or time.perf_counter() < stop):
        image = images[len(times) % len(images)][None]
        started = time.perf_counter()
        runtime.run(None, {"pixels": image})
        times.append(time.perf_counter() - started)
    return round(1000 * statistics.median(times[3:]), 3)  # the first ones warm up
