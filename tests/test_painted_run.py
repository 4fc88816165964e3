"""`kka run` on photos as people have them, with the models that ship: captions by defects, pictures by paint."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fakes import FAST, run_fake, small_task
from imaging_fakes import tiny_pipeline
from kka.algorithm.folder import RunFolder
from kka.config import RunConfig
from kka.errors import UserError
from kka.run.execute import run
from kka.settings.deep_sad import DeepSADSettings
from kka.settings.drawing import DrawingSettings
from kka.task import Task
from test_altering import Squares

SMALL = RunConfig(
    rounds=1, initial=12, fresh=6, per_round=3, seeds=1, autoencoder_epochs=1,
    sad=DeepSADSettings(epochs=1, pretrain_epochs=1, milestones=(), precision="fp32"),
)  # fmt: skip


def save(folder: Path, photos: list[np.ndarray]) -> str:
    folder.mkdir()
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(folder / f"{number:02d}.png")
    return str(folder)


def plate(height: int, width: int, seed: int) -> np.ndarray:
    grain = np.random.default_rng(seed).normal(120, 8, (height, width, 1))
    return np.repeat(grain, 3, axis=2).clip(0, 255).astype(np.uint8)


def test_photos_of_all_sizes_in_another_language(tmp_path: Path) -> None:
    """Some smaller than a defect, one black, one all light, described in Spanish: each becomes a defect of its own."""
    sizes = [(5, 7), (200, 31), (64, 64), (90, 40), (40, 90), (12, 12), (64, 65), (33, 34), (70, 20)]
    photos = [plate(*size, seed) for seed, size in enumerate(sizes)]
    photos += [np.zeros((40, 40, 3), np.uint8), np.full((30, 50, 3), 255, np.uint8)]
    data = save(tmp_path / "fotos", photos)
    described = replace(SMALL, data=data, describe="una foto gris de una placa metálica")
    summary = run(described, tmp_path / "run")
    assert summary["models"] == {"language": "defects", "images": "paint", "detector": "sad"}
    made = RunFolder(tmp_path / "run")
    assert all("una placa metálica" in written.caption or "una foto gris" in written.caption
               for written in made.captions(0))  # fmt: skip
    fresh, normals = made.fresh(0), made.altered_normals(0)
    assert len(fresh) >= 8 and fresh.masks is not None
    for image, mask, entry in zip(fresh.images, fresh.masks, fresh.entries, strict=True):
        normal = normals[entry.normal]  # type: ignore[index]
        assert np.array_equal(image[mask == 0], normal[mask == 0]) and (image != normal).any()
    assert "Of each: the normal" in (tmp_path / "run/report.html").read_text(encoding="utf-8")


def test_one_photo_copied_is_refused(tmp_path: Path) -> None:
    """Nothing could be learned of what varies."""
    data = save(tmp_path / "photos", [plate(40, 40, 0)] * 12)
    with pytest.raises(UserError, match="one and the same picture"):
        run(replace(SMALL, data=data, describe="a photo of a plate"), tmp_path / "run")


def test_captions_that_name_no_defect_are_noted(tmp_path: Path) -> None:
    """The seed decides what is painted: what the language model knows is lost, and nothing else would say so."""

    class Deaf(Squares):
        identity = "deaf/1"

        def reads(self, caption: str) -> bool:
            return False

    def untested() -> Task:
        return small_task(test=False)

    run_fake(replace(FAST, rounds=0, initial=12), tmp_path / "run", images=Deaf, task=untested, report=True)
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "12 of 12 captions name no defect that the image model" in page


def test_a_diffusion_model_on_the_photos(tmp_path: Path) -> None:
    """The whole way of `--images inpaint:…`: its pictures, its masks, its report, and the detector's training."""
    pytest.importorskip("diffusers", reason="the optional package diffusers is absent")
    tiny_pipeline(tmp_path / "tiny").save_pretrained(tmp_path / "tiny")
    data = save(tmp_path / "photos", [plate(40, 40, seed) for seed in range(10)])
    drawing = DrawingSettings(steps=2, size=64)
    config = replace(SMALL, data=data, describe="a photo of a plate", drawing=drawing, rounds=0)
    summary = run(replace(config, images=f"inpaint:{tmp_path / 'tiny'}"), tmp_path / "run")
    fresh, normals = RunFolder(tmp_path / "run").fresh(0), RunFolder(tmp_path / "run").altered_normals(0)
    assert summary["rounds"][0]["generated"] == len(fresh) > 6 and fresh.masks is not None
    for image, mask, entry in zip(fresh.images, fresh.masks, fresh.entries, strict=True):
        normal = normals[entry.normal]  # type: ignore[index]
        assert np.array_equal(image[mask == 0], normal[mask == 0]) and (image[mask > 0] != normal[mask > 0]).any()
    assert "Of each: the normal" in (tmp_path / "run/report.html").read_text(encoding="utf-8")
