"""What `kka images measure` does: the pictures to measure with, the measuring, the files of what came of it."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kka import __version__
from kka.common.cache import ImageCache
from kka.common.files import sha256, write_atomically
from kka.common.progress import StageProgress
from kka.data import open_task
from kka.errors import UserError
from kka.imaging import check_image_model
from kka.imaging.diffusers import trained_facts
from kka.imaging.pipeline_files import INDEX
from kka.imaging.quality.appearance import appearance
from kka.imaging.quality.sheet import write_quality_sheet
from kka.run.drawing import Allowed, allowed_pictures
from kka.run.models import build_drawing
from kka.run.quality import Features, Quality, Shown, measure_quality
from kka.seeding import derive_seed
from kka.settings.backbone import BackboneSettings
from kka.settings.drawing import DrawingSettings
from kka.settings.quality import QualitySettings
from kka.task import Knowledge

FIGURES, SHEET = "quality.json", "quality.png"
"""In the folder of a measuring."""
ROWS, SUSPECTS = 32, 8
"""Captions of the sheet, as they come, and those whose picture is most like a copy."""
SIZE = 64
"""Side in pixels at which pictures are compared, where neither the model nor the person says."""
BIAS = (
    "A Fréchet distance of n pictures a side is biased upwards, the more the fewer they are, and depends on the "
    "features: the drawn one is to be read beside the real one, of the same n and features, and beside no other."
)
LABELS = (
    "Held-out real pictures are test pictures of the classes that the model may know, with their captions. They are "
    "used to measure and for nothing else; no label of normal or anomalous enters."
)


def spec_of(model: str) -> str:
    """A folder with a pipeline may be named without `diffusers:`."""
    return f"diffusers:{model}" if (Path(model).expanduser() / INDEX).is_file() else model


def stored_choice(spec: str) -> tuple[Allowed, int] | None:
    """What a model that kka trained was allowed to know, and the side of its pictures; None for other models."""
    facts = trained_facts(spec)
    if facts is None:
        return None
    words: dict[str, Any] = {name: tuple(facts.get(name, ())) for name in ("normal", "known")}
    numbers = {name: facts[name] for name in ("unseen", "split_seed") if name in facts}
    return Allowed(data=str(facts.get("data")), **words, **numbers), int(facts.get("size", SIZE))


def default_size(stored: tuple[Allowed, int] | None, allowed: Allowed) -> int:
    """Side in pixels at which pictures are compared, where nobody says: the model's, the garden's, or SIZE."""
    if allowed.data == "garden":
        from kka.garden.backdrop import SIZE as OF_THE_GARDEN

        return OF_THE_GARDEN
    return SIZE if stored is None else stored[1]


def held_out_pictures(allowed: Allowed, training: Knowledge, *, size: int, most: int, seed: int) -> Knowledge:
    """Captioned pictures of the classes of `training` that no model learned from, in random order.

    Of Parquet data test pictures; of the garden others that it grows.

    Raises:
        UserError: data without such pictures.
    """
    kinds, folder = {*training.kinds}, Path(allowed.data).expanduser()
    if allowed.data == "garden":
        grown = open_task("garden", normal=allowed.normal, seed=allowed.split_seed + 1).knowledge
        assert grown is not None
        mine = np.array([i for i, kind in enumerate(grown.kinds) if kind in kinds])
        order = mine[np.random.default_rng(derive_seed(seed, "held-out")).permutation(len(mine))[:most]].tolist()
        return grown.only(order)
    if not (folder / "test.parquet").is_file():
        raise UserError(
            f"images measure: expected held-out pictures with captions, as in a folder with train.parquet and "
            f"test.parquet, or the garden; got {allowed.data}, which has none. Give --data."
        )
    from kka.data.known import load_held_out

    return load_held_out(folder, kinds, size=size, most=most, seed=seed)[0]


def measure_image_model(
    spec: str,
    allowed: Allowed,
    out: Path,
    *,
    size: int,
    settings: QualitySettings,
    drawing: DrawingSettings | None = None,
    backbone: BackboneSettings | None = None,
    command: str = "",
    progress: StageProgress | None = None,
    say: Callable[[str], None] | None = None,
) -> Quality:
    """Measure the image model `spec` and write quality.json and quality.png into the folder `out`.

    Drawn pictures and features are cached: what was stopped goes on where it was.

    Args:
        allowed: Whose pictures stand for what it learned from.
        size: Side in pixels at which pictures are compared.
        backbone: To look through; None: plain statistics of colours and edges.

    Raises:
        UserError: data, a model or weights that cannot be had; too few pictures; a place that cannot be written.
    """
    drawing = drawing or DrawingSettings()
    check_image_model(spec, settings=drawing)
    features: Features = appearance
    looks = "plain statistics of colours and edges"
    if backbone is not None:
        from kka.detectors.pooled import pooled_features

        tell = None if progress is None else partial(progress, "features")
        features = pooled_features(backbone, side=size, device=settings.device, progress=tell)
        looks = f"means over the maps of {backbone.name} at strides 16 and 32"
    training, _ = allowed_pictures(allowed, size)
    held = held_out_pictures(allowed, training, size=size, most=2 * settings.pictures, seed=settings.seed)
    notes = _notes(spec, training)
    if say is not None:
        for note in notes:
            say(note)
    model = build_drawing(spec, drawing, training)
    found, shown = measure_quality(
        model, training, held, settings=settings, features=features, cache=ImageCache(), progress=progress
    )
    weights = Path(backbone.weights).expanduser() if backbone is not None else None
    facts = {
        "model": spec, "identity": model.identity, "command": command, "kka": __version__,
        "allowed": dataclasses.asdict(allowed), "classes": sorted({*training.kinds}), "size": size,
        "settings": dataclasses.asdict(settings), "features": looks,
        "backbone": None if backbone is None else dataclasses.asdict(backbone),
        "digests": {
            "training pictures": training.digest, "held-out pictures": held.digest,
            "backbone": sha256(weights) if weights is not None and weights.is_file() else None,
        },
        "notes": [*notes, LABELS, BIAS], **found.as_dict(),
    }  # fmt: skip
    _write(out, facts, shown)
    return found


def _notes(spec: str, training: Knowledge) -> list[str]:
    facts = trained_facts(spec)
    if facts is None:
        return ["The model does not say what it learned from: the data's pictures of these classes stand for that."]
    if facts.get("pictures") != training.digest:
        return [
            "These are not the very pictures that the model learned from: what is said of copies holds for these alone."
        ]
    return []


def _write(out: Path, facts: Mapping[str, Any], shown: Shown) -> None:
    rows = np.arange(min(ROWS, len(shown.captions)))
    suspects = np.argsort(shown.relative, kind="stable")[:SUSPECTS]
    chosen = [*rows.tolist(), *suspects.tolist()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        captions = [
            ("most like a copy: " if i >= len(rows) else "") + shown.captions[row] for i, row in enumerate(chosen)
        ]
        write_quality_sheet(out / SHEET, shown.drawn[chosen], shown.real[chosen], shown.nearest[chosen], captions)
        write_atomically(out / FIGURES, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}. Choose another --out.") from error
