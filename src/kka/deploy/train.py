"""A detector trained, given a threshold, and kept with all that scoring and export need: what `kka train` does."""

import dataclasses
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kka.algorithm.folder import LOSSES
from kka.algorithm.pool import AnomalyPool
from kka.common.cache import pixel_hash
from kka.common.files import replacing
from kka.common.inspection import Row, write_inspection
from kka.common.mapped import joined, taken
from kka.common.metrics import evaluate
from kka.common.numbers import DIVERGED, require_finite
from kka.common.own import class_path, is_own
from kka.deploy.anomalies import Anomalies, altered_copies, fit_anomalies
from kka.deploy.calibrate import Calibration, calibrate, check_rate
from kka.deploy.defects import Caught, Defects, catch
from kka.deploy.gallery import GALLERY, write_gallery
from kka.deploy.heat import heat_limits
from kka.deploy.inspect import inspect_test
from kka.deploy.reviewed import Reviewed
from kka.deploy.stored import CHECK, DEFECTS, INSPECTION
from kka.deploy.whole import maps_of, scores_of, some_of
from kka.errors import UserError
from kka.protocols import Detector, Images, Localises, MayIgnoreAnomalies, Pictures, TakesMore, Trained
from kka.seeding import derive_seed
from kka.task import MIN_NORMALS, Task

CHECK_IMAGES = 16


def hold_out(
    normals: Images, share: float, *, seed: int, photo_of: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the normals to train with and of those held out, both ascending.

    Copies, pixel for pixel, stay on one side: a held-out copy of a training image would promise too much. So do the
    tiles of one photo.

    Args:
        photo_of: (n,), where the normals are tiles: which photo each is of (`kka.task.Task`).

    Raises:
        UserError: a share outside of [0, 1), or one that leaves too few to train with.
    """
    check_share(share)
    groups: dict[str, list[int]] = {}
    for i, image in enumerate(normals):
        groups.setdefault(pixel_hash(image) if photo_of is None else str(photo_of[i]), []).append(i)
    order = np.random.default_rng(derive_seed(seed, "held-out")).permutation(len(groups))
    wanted = max(1, round(share * len(groups))) if share else 0
    members = list(groups.values())
    held = sorted(i for g in order[:wanted] for i in members[g])
    kept = sorted(i for g in order[wanted:] for i in members[g])
    if photo_of is not None and len(groups) - wanted < MIN_NORMALS:
        raise UserError(
            f"held-out: at least {MIN_NORMALS} photos must remain to train with; got {len(groups) - wanted} of "
            f"{len(groups)} ({wanted} held out). Add photos, or choose a smaller share; 0 holds none out and gives no "
            "threshold."
        )
    if len(kept) < MIN_NORMALS:
        copies = "" if len(groups) == len(normals) else f"; they are {len(groups)} different pictures, copied"
        raise UserError(
            f"held-out: at least {MIN_NORMALS} normals must remain to train with; got {len(kept)} of {len(normals)} "
            f"({len(held)} held out{copies}). Add {'different ' if copies else ''}photos, or choose a smaller share; 0 "
            "holds none out and gives no threshold."
        )
    return np.array(kept, int), np.array(held, int)


def check_share(share: float) -> None:
    """Raises UserError for what is no share to hold out."""
    if not 0 <= share < 1:
        raise UserError(f"held-out: expected a share of the normals from 0 to below 1; got {share}")


def annotate(
    folder: Path, normals: Images, *, calibration: Calibration | None = None, of: Detector | None = None, **facts: Any
) -> None:
    """Add to a saved detector's card the size of its training images and the threshold, and keep a few `normals`.

    Args:
        of: The detector. The card of a person's own names its class, by which it is loaded again. One that has no
            `load`, or whose class has no path (a script's), is left as it is.
    """
    from kka.detectors.saving import CARD, read_card, write_card

    card = read_card(folder) if (folder / CARD).is_file() else {}
    if of is not None and is_own(type(of)) and callable(getattr(type(of), "load", None)) and (path := class_path(of)):
        card["detector"] = path
    if "detector" not in card:
        return
    (folder / CHECK).mkdir(exist_ok=True)
    for number, image in enumerate(normals[_some(np.arange(len(normals)))]):
        Image.fromarray(image).save(folder / CHECK / f"{number:02d}.png")
    card |= {"image_size": list(normals.shape[1:3]), **facts}
    if calibration is not None:
        card["calibration"] = dataclasses.asdict(calibration)
    write_card(folder, card)


def write_losses(folder: Path, detector: Detector) -> None:
    """Keep how a detector's training went, where it tells."""
    if isinstance(detector, Trained):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOSSES).write_text(json.dumps({"losses": [float(loss) for loss in detector.losses_]}))


def _some(positions: np.ndarray) -> np.ndarray:
    """A few of them, spread evenly."""
    return positions[np.linspace(0, len(positions) - 1, min(CHECK_IMAGES, len(positions))).round().astype(int)]


def require_free(out: Path) -> None:
    """Raises UserError where `out` holds something already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "a detector" if (out / "detector.json").is_file() else "something"
        raise UserError(f"{out} holds {what} already, which is not overwritten. Choose another --out, or remove it.")


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What a training was done with, and what came of it."""

    detector: Detector
    normals: int
    held_out: int
    """Normals that set the threshold."""
    anomalies: int
    seconds: float
    calibration: Calibration | None
    figures: dict[str, float]
    """Of the test set: see `kka.common.metrics.evaluate`. Empty without one."""
    inspection: tuple[Row, ...] = ()
    """Of the test set, by kind of defect."""
    reviewed: Reviewed | None = None
    """What a person's marks of photos added and took away."""
    caught: Caught | None = None
    """Of the defects at hand."""
    real_defects: int = 0
    """Of the anomalies so many are defects at hand."""
    traces: int = 0
    """Pictures that the image model drew without an anomaly, which were trained with as normals."""


def train_detector(
    detector: Detector,
    task: Task,
    anomalies: Anomalies | None,
    out: Path,
    *,
    held_out: float,
    fpr: float,
    seed: int,
    reviewed: Reviewed | None = None,
    defects: Defects | None = None,
    train_on_defects: bool = False,
    traces: AnomalyPool | None = None,
) -> TrainingFacts:
    """Fit on a share of the normals, set the threshold on the rest, and keep the detector in the folder `out`.

    The folder is there whole or not at all: not after a training that diverged.

    Args:
        reviewed: What of these a person added and took away, which its card says.
        defects: What it finds of them is told and kept. They train nothing, unless `train_on_defects`: then they are
            anomalies as the others are.
        traces: What the image model drew without an anomaly. They are trained with as normals, but for those of normals
            that are held out: then how it draws tells the detector nothing.

    Raises:
        UserError: a folder that is not free, too few normals, losses, scores or weights that are no numbers.
    """
    require_free(out)
    check_rate(fpr)
    kept, held = hold_out(task.normals, held_out, seed=seed, photo_of=task.photo_of)
    given = None if anomalies is None else _apart(anomalies, task, held)
    real = 0
    if defects is not None and given is not None:
        defects = defects.apart_from(given)
    if defects is not None and train_on_defects:
        given, real = defects.joined(given, by_masks=isinstance(detector, TakesMore) and "masks" in detector.takes)
    if given is not None and isinstance(detector, MayIgnoreAnomalies) and not detector.uses_anomalies:
        warnings.warn(f"this detector learns from normals alone: the {len(given.images)} anomalies are not used",
                      stacklevel=2)  # fmt: skip
        given, real = None, 0
    started = time.perf_counter()
    captions, normals = [task.captions[i] for i in kept], taken(task.normals, kept)
    if traces is not None:
        seen = altered_copies(Anomalies.of_pool(traces, None), taken(task.normals, held))
        traces = traces.take(np.flatnonzero(~seen).tolist())
        captions, normals = captions + [e.caption for e in traces.entries], joined(normals, traces.images)
    detector = fit_anomalies(detector, normals, given, captions=captions)
    seconds = time.perf_counter() - started
    few = task.normals[_some(held if len(held) else kept)]
    setting = photos_at(task, held)
    of_held = scores_of(detector, setting) if len(held) else np.zeros(0, np.float32)
    calibration = calibrate(of_held, fpr) if len(held) else None
    caught = None
    if defects is not None and calibration is not None:
        of_defects = scores_of(detector, defects.pictures)
        trained = min(real, len(of_defects))  # of a large photo, several tiles
        caught = catch(of_defects, defects.kinds, of_held, calibration, trained_with=trained)
    if calibration is not None and isinstance(detector, Localises):
        calibration = with_map_threshold(calibration, detector, setting)
    if calibration is None:
        require_finite(detector.score(few), "the scores of normals", DIVERGED)
    figures: dict[str, float] = {}
    inspection: list[Row] = []
    scores = np.zeros(0, np.float32)
    if task.test is not None:
        scores = scores_of(detector, task.test.pictures)
        figures = evaluate(scores, task.test.is_anomaly, task.test.seen)
        threshold = None if calibration is None else calibration.threshold
        inspection = inspect_test(detector, task.test, scores, threshold)
    counts = {"normals": len(photos_at(task, kept)), "held_out": len(setting)}
    counts |= {"anomalies": 0 if given is None else len(given.images)}
    if real:
        counts["real_defects"] = real  # of the anomalies
    if traces is not None:
        counts["traces"] = len(traces)
    try:
        with replacing(out) as work:
            detector.save(work)
            write_losses(work, detector)
            if inspection:
                stored = None if calibration is None else calibration.figures
                write_inspection(inspection, work / INSPECTION, calibration=stored)
            if task.test is not None and calibration is not None:
                limits: tuple[float, float] | None = None
                if isinstance(detector, Localises):
                    normal = detector.score_map(few)
                    limits = heat_limits(normal, calibration.map_threshold)
                write_gallery(work / GALLERY, detector, task.test, scores, calibration.threshold, limits)
            annotate(
                work, few, calibration=calibration, of=detector, **way_of(task),
                data=task.source,
                trained_with=counts if reviewed is None else counts | {"reviews": dataclasses.asdict(reviewed)},
                **({} if caught is None else {DEFECTS: dataclasses.asdict(caught)}),
            )  # fmt: skip
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}. Choose another --out.") from error
    return TrainingFacts(
        detector=detector, **counts, seconds=seconds, calibration=calibration, figures=figures,
        inspection=tuple(inspection), reviewed=reviewed, caught=caught,
    )  # fmt: skip


def photos_at(task: Task, positions: np.ndarray) -> Pictures:
    """The normals at these positions; where they are tiles, the whole photos that they are of."""
    if task.photos is None or task.photo_of is None:
        return taken(task.normals, positions)
    return task.photos.only(np.unique(task.photo_of[positions]).tolist())


def way_of(task: Task) -> dict[str, Any]:
    """How a file becomes what the detector sees: of the card's facts."""
    tiles = {} if task.photos is None else {"overlap": task.photos.overlap}
    return {"white": task.white, "fit": task.fit, **tiles}


def with_map_threshold(calibration: Calibration, detector: Localises, held: Pictures) -> Calibration:
    """The calibration with the threshold of maps: so many of the held-out normals have no pixel above it."""
    peaks: list[float] = []
    for i in range(0, len(held), 64):
        peaks += [float(heat.max()) for heat in maps_of(detector, some_of(held, np.arange(i, min(i + 64, len(held)))))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where they are too few, the scores have said so
        found = calibrate(np.array(peaks, np.float32), calibration.fpr)
    return dataclasses.replace(calibration, map_threshold=found.threshold)


def _apart(anomalies: Anomalies, task: Task, held_out: np.ndarray) -> Anomalies:
    """Them without those that are test images or held-out normals, pixel for pixel; warnings count them. Nor are
    there held-out normals that were altered.

    A held-out normal that training calls anomalous would set the threshold too high.
    """
    held = taken(task.normals, held_out)
    keep = np.ones(len(anomalies.images), dtype=bool)
    hashes = anomalies.digests or [pixel_hash(image) for image in anomalies.images]
    whole = photos_at(task, held_out)
    for what, others, photos in (
        ("test images", task.normals[:0] if task.test is None else task.test.images, task.test and task.test.photos),
        ("copies of held-out normals", held, None if isinstance(whole, np.ndarray) else whole),
    ):
        known = {pixel_hash(image) for image in others}.union(photos.digests if photos else ())
        copies = np.array([key in known for key in hashes], dtype=bool)
        if copies.any():
            warnings.warn(f"{copies.sum()} of {len(keep)} anomalies are {what}; they were left out", stacklevel=3)
        keep &= ~copies
    return anomalies.only(keep & ~altered_copies(anomalies, held))  # a run alters all of its normals: that is no slip
