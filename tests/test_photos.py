"""A person's own folder, with a Hugging Face language model and a diffusion model: checkpoints of the real format."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imaging_fakes import tiny_pipeline
from kka.algorithm.pool import AnomalyPool
from kka.cli import main
from kka.language import GARDEN_LM


@pytest.mark.slow
def test_photos_with_own_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`kka run --data ./photos --describe … --lm hf:… --images diffusers:…` would not go through."""
    photos = tmp_path / "meine Größen 花"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 255, (48, 60, 3), dtype=np.uint8)).save(photos / f"teil {i}.png")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    tiny_pipeline(tmp_path).save_pretrained(tmp_path / "sd", safe_serialization=True)
    shutil.copytree(GARDEN_LM, tmp_path / "lm")

    command = ["run", "--data", str(photos), "--describe", "a photo of a machined bracket", "--size", "32"]
    command += ["--lm", f"hf:{tmp_path / 'lm'}", "--images", f"diffusers:{tmp_path / 'sd'}", "--prompt", "style"]
    command += ["--drawing.steps", "1", "--initial", "6", "--fresh", "4", "--rounds", "1", "--seeds", "1"]
    command += ["--sad.epochs", "1", "--autoencoder-epochs", "1", "--language.dpo-steps", "1"]
    command += ["--representatives", "1", "--out", str(tmp_path / "run")]
    assert main(command) == 0

    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["task"]["normals"] == 10
    assert summary["arms"] == {}, "no test images, so no figures"
    assert [Path(item["path"]).name for item in summary["task"]["set_aside"]] == ["broken.jpg"]
    pool = AnomalyPool.load(tmp_path / "run/pool.parquet")
    assert pool.images.shape == (6, 32, 32, 3)
    assert (tmp_path / "run/arms/kka-1/seed-0/detector/detector.json").is_file()
    assert "broken.jpg" in capsys.readouterr().err
