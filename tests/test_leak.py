"""Test images and test labels reach the metrics and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import kka.algorithm.deep_sad
from fakes import FAST, outcome, run_fake, small_task

LABELLED = (
    "metrics.json", "task.npz", "summary.json", "run.json", "inspection.json", "inspection.csv",
    "gallery.npz",
)
"""The only files that may know a test label; run.json has a digest of them."""


def test_shuffled_labels_change_metrics_only(tmp_path: Path, finished: Path) -> None:
    """If anything else changed, labels would have leaked into captions, pool, training or scores."""
    run_fake(FAST, tmp_path / "run", task=lambda: small_task(shuffle=True))
    before, after = outcome(finished), outcome(tmp_path / "run")
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert {Path(name).name for name in changed} == set(LABELLED)
    assert sum(name.endswith("scores.npy") for name in before) == 7
    digests = [json.loads(files["run.json"])["data"] for files in (before, after)]
    assert {part for part in digests[0] if digests[0][part] != digests[1][part]} == {"labels of the test images"}
    old, new = (json.loads(files["summary.json"]) for files in (before, after))
    assert old["arms"] != new["arms"]
    for r, s in zip(old["rounds"], new["rounds"], strict=True):
        assert {k: v for k, v in r.items() if k not in ("auroc", "ci95")} == {
            k: v for k, v in s.items() if k not in ("auroc", "ci95")
        }


def test_no_test_image_is_trained_on_and_others_change_nothing(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another test set, every round and every trained network stays the same to the bit."""
    task = small_task(test_seed=2)
    trained: set[bytes] = set()
    original = kka.algorithm.deep_sad._fit

    def spy(module, loss, pixels, *rest, **named):
        trained.update(x.permute(1, 2, 0).contiguous().numpy().tobytes() for x in pixels)
        return original(module, loss, pixels, *rest, **named)

    monkeypatch.setattr(kka.algorithm.deep_sad, "_fit", spy)
    run_fake(FAST, tmp_path / "run", task=lambda: task)
    assert task.test is not None
    assert {x.tobytes() for x in task.normals} <= trained
    assert not trained & {x.tobytes() for x in task.test.images}
    before, after = outcome(finished), outcome(tmp_path / "run")
    tested = (*LABELLED, "scores.npy", "latent.npy")
    changed = {name for name in before if before[name] != after[name]}
    assert all(Path(name).name in tested for name in changed)
    assert "arms/kka-2/seed-0/detector/deep_sad.safetensors" not in changed and "pool.parquet" not in changed


def test_the_run_directory_and_the_cache_hold_no_test_image(finished: Path, own_cache: Path) -> None:
    """A test image in the pool, in a report or in the cache could come back as training data."""
    from kka.algorithm.pool import AnomalyPool
    from kka.common.cache import pixel_hash

    task = small_task()
    assert task.test is not None
    sealed = {pixel_hash(image) for image in task.test.images}
    kept = [AnomalyPool.load(path).images for path in finished.rglob("*.parquet")]
    kept.append(np.load(finished / "task/task.npz")["normals"])
    assert len(kept) > 4 and not sealed & {pixel_hash(image) for images in kept for image in images}
    from PIL import Image

    cached = [np.asarray(Image.open(path)) for path in own_cache.rglob("*.png")]
    assert cached and not sealed & {pixel_hash(image) for image in cached}


def test_scores_are_those_of_the_kept_detector(finished: Path) -> None:
    """The reported figures belong to the last epoch of the network on disk."""
    from kka.common.metrics import auroc
    from kka.detectors import load_detector

    torch.set_num_threads(1)
    task = small_task()
    assert task.test is not None
    arm = finished / "arms/kka-2/seed-0"
    scores = load_detector(arm / "detector").score(task.test.images)
    assert (scores == np.load(arm / "scores.npy")).all()
    metrics = json.loads((arm / "metrics.json").read_text())
    assert metrics["auroc"] == auroc(scores, task.test.is_anomaly)
    kept = finished / "kept/kka-2/detector"
    scores = load_detector(kept).score(task.test.images)
    told = json.loads((kept / "inspection.json").read_text())
    figures = {row["kind"]: row["figures"] for row in told["rows"]}
    assert figures["all defects"]["auroc"]["value"] == pytest.approx(auroc(scores, task.test.is_anomaly))
    missed = scores[task.test.is_anomaly] <= np.float32(told["calibration"]["threshold"])
    assert figures["all defects"]["miss_rate"]["value"] == pytest.approx(missed.mean())
