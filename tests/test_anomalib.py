"""Models of anomalib as detectors: which there are, what they are told, what they leave behind."""

import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kka.config import RunConfig
from kka.detectors import build_detector, detector_class, is_own_detector, learns_from_anomalies, load_detector
from kka.detectors.anomalib.models import MODELS
from kka.errors import UserError
from kka.protocols import Detector, Images, Localises, MayIgnoreAnomalies, TakesMore, Trained
from kka.run.models import check_config
from kka.settings.backbone import BackboneSettings

pytest.importorskip("anomalib", reason="anomalib is not installed: pip install 'kka[anomalib]'")

BACKBONE = BackboneSettings(name="mobilenetv2_035", weights="random")
SMALL = {
    "anomaly_dino": ("vit_small_patch14_dinov2", ("size=56",)),
    "cfa": ("resnet18", ("epochs=1", "size=64")),
    "csflow": ("efficientnet_b5", ("epochs=1", "size=256")),
    "dfkde": ("mobilenetv2_035", ("size=64", "n_pca_components=4")),
    "dfm": ("mobilenetv2_035", ("size=64",)),
    "dinomaly": ("vit_small_patch14_dinov2", ("epochs=1", "size=64")),
    "fastflow": ("resnet18", ("epochs=1", "size=64")),
    "foundad": ("vit_small_patch14_dinov2.lvd142m", ("epochs=1", "size=56", "encoder_name=dinov2_vit_small_14")),
    "fre": ("mobilenetv2_035", ("epochs=1", "size=64")),
    "ganomaly": (None, ("epochs=1", "size=64")),
    "general_ad": ("vit_tiny_patch16_224", ("epochs=1", "size=64", "layers=4")),
    "glass": ("mobilenetv2_035", ("epochs=1", "size=64")),
    "inp_former": ("vit_small_patch14_reg4_dinov2", ("epochs=1", "size=64")),
    "l2bt": ("vit_base_patch14_reg4_dinov2", ("epochs=1", "size=56")),
    "mh_patchcore": ("mobilenetv2_035", ("size=64",)),
    "padim": ("mobilenetv2_035", ("size=64",)),
    "patchcore": ("mobilenetv2_035", ("size=64", "num_neighbors=3", "layers=1,2")),
    "patchflow": ("mobilenetv2_035", ("epochs=1", "size=64")),
    "rad": ("vit_tiny_patch16_224", ("size=73", "layers=3,6")),
    "reverse_distillation": ("resnet18", ("epochs=1", "size=64")),
    "stfpm": ("mobilenetv2_035", ("epochs=1", "size=64")),
    "super_add": ("vit_small_patch16_dinov3", ("size=64", "patch_size=64", "patch_overlap=16")),
    "supersimplenet": ("mobilenetv2_035", ("epochs=1", "size=128")),
    "uflow": ("resnet18", ("epochs=1", "size=64")),
    "uninet": ("wide_resnet50_2", ("epochs=1", "size=64")),
}
"""Model -> a random backbone and settings, for a fit within seconds."""
FLAT = ("csflow",)
"""Those whose random backbone, an EfficientNet, makes features that hardly differ."""
FILES = ("draem", "dsr", "efficient_ad")
"""Those that need files which are not here."""


def pictures(n: int, seed: int = 0, size: int = 32) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def build(model: str, *overrides: str, backbone: BackboneSettings | None = BACKBONE, seed: int = 1) -> Any:
    return build_detector(f"anomalib:{model}", overrides=overrides, backbone=backbone, seed=seed)


def small(model: str, *more: str) -> Any:
    name, overrides = SMALL[model]
    backbone = None if name is None else BackboneSettings(name=name, weights="random")
    return build(model, *overrides, *more, backbone=backbone)


def test_every_image_model_of_anomalib_is_known() -> None:
    """A version with another model, or with other names, must be noticed: used, or refused in words."""
    from kka.detectors.anomalib.network import package

    image = package().image

    assert {model.kind for model in MODELS.values()} == {name for name in image.__all__ if name[0].isupper()}
    assert {*SMALL, *FILES} == {name for name, model in MODELS.items() if not model.refused}


def test_names() -> None:
    """`anomalib:padim` is no class Padim in a module anomalib; unknown and unfit models are refused with the known."""
    assert not is_own_detector("anomalib:padim") and detector_class("anomalib:padim").__name__ == "Anomalib"
    assert is_own_detector("other:padim")
    with pytest.raises(UserError, match=r"unknown model of anomalib: expected one of .*padim, .*; got 'padimm'"):
        build("padimm")
    with pytest.raises(UserError, match=r"anomalib:cflow cannot stand here: an image's score depends on those"):
        build("cflow")
    with pytest.raises(UserError, match=r"anomalib:winclip cannot stand here: it is not trained on normals"):
        build("winclip")
    with pytest.raises(UserError, match=r"expected one of .*anomalib:<model>.*; got 'anomalb'"):
        build_detector("anomalb")


def test_settings_and_the_models_own_arguments() -> None:
    """A slip in a name would be left aside in silence; a text must become a number where one is wanted."""
    detector = build("patchcore", "size=64", "num_neighbors=3", "layers=1,2")
    assert detector.settings.size == 64 and detector.settings.options == ("num_neighbors=3", "layers=1,2")
    assert detector._arguments == {"num_neighbors": 3, "layers": [1, 2]}
    with pytest.raises(UserError, match=r"unknown setting of anomalib:patchcore: .*num_neighbors.*size; got 'neighb'"):
        build("patchcore", "neighb=3")
    with pytest.raises(UserError, match=r"unknown setting of anomalib:patchcore.*'evaluator'"):
        build("patchcore", "evaluator=true")
    with pytest.raises(UserError, match=r"expected num_neighbors to be .*; got 'x'"):
        build("patchcore", "num_neighbors=x")
    with pytest.raises(UserError, match="size: expected at least 128 for this model; got 64"):
        build("supersimplenet", "size=64").fit(pictures(8))
    with pytest.raises(UserError, match=r"anomalib:padim: anomalib refuses this: .*n_features"):
        build("padim", "size=64", "n_features=9999").check_weights()


def test_the_backbone_is_that_of_the_settings(tmp_path: Path) -> None:
    """The file's very weights, normalised as it wants; another file's, or another network's, are refused."""
    import timm
    from safetensors.torch import save_file

    whole = timm.create_model("mobilenetv2_035", pretrained=False)
    save_file(whole.state_dict(), tmp_path / "net.safetensors")
    settings = BackboneSettings(name="mobilenetv2_035", weights=str(tmp_path / "net.safetensors"), mean=(0.5,))
    detector = build("padim", "size=64", backbone=settings)
    module = detector._built()
    found = module.model.feature_extractor.feature_extractor.state_dict()
    assert (found["conv_stem.weight"] == whole.state_dict()["conv_stem.weight"]).all()
    assert module.model.feature_extractor.reductions == [4, 8, 16], "layers of the strides of a ResNet's"
    assert detector.fit(pictures(8)).graph_.prepare.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert timm.create_model.__module__.startswith("timm"), "timm is as it was"
    other = BackboneSettings(name="mobilenetv2_050", weights=str(tmp_path / "net.safetensors"))
    with pytest.raises(UserError, match="does not hold the weights of mobilenetv2_050"):
        build("padim", backbone=other).check_weights()
    with pytest.raises(UserError, match="this model looks through no network alone; got mobilenetv2_035"):
        build("ganomaly", "size=64").check_weights()


def test_it_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No logs and checkpoints in the folder that one is in, no bars, and the handlers of signals as they were."""
    monkeypatch.chdir(tmp_path)
    before = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    done: list[tuple[int, int]] = []
    detector = build("patchcore", "size=64", "batch_size=4")
    detector.progress = lambda *part: done.append(part)
    detector.fit(pictures(10))
    assert list(tmp_path.iterdir()) == [] and done == [(1, 3), (2, 3), (3, 3)]
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == before
    out, err = capfd.readouterr()
    assert out == "" and err == ""


def test_an_interrupt_ends_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning ends the program and ignores Ctrl-C from then on: the command could not say how to go on."""
    before = signal.getsignal(signal.SIGINT)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    detector = build("padim", "size=64")
    detector.progress = stop
    with pytest.raises(KeyboardInterrupt):
        detector.fit(pictures(8))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_training_that_diverges_is_an_error() -> None:
    """Scores that are NaN lie above no threshold."""
    with pytest.raises(UserError, match=r"losses of its epochs: expected finite numbers"):
        build("patchflow", "size=64", "epochs=3", "lr=1e30").fit(pictures(12))


def test_anomalies_are_used_or_it_is_said() -> None:
    """A model that learns from normals alone must not seem to have learnt from a pool, and a run of it says nothing."""
    detector = build("padim", "size=64")
    assert isinstance(detector, MayIgnoreAnomalies) and not detector.uses_anomalies and not detector.takes
    with pytest.warns(UserWarning, match="anomalib:padim learns from normals alone: the 3 anomalies are not used"):
        with_them = detector.fit(pictures(8), pictures(3, 1)).score(pictures(4, 2))
    assert (with_them == build("padim", "size=64").fit(pictures(8)).score(pictures(4, 2))).all()
    assert build("supersimplenet").uses_anomalies and not build("supersimplenet", "supervised=false").uses_anomalies
    assert learns_from_anomalies("anomalib:supersimplenet") and not learns_from_anomalies("anomalib:padim")
    assert learns_from_anomalies("sad")
    with pytest.raises(UserError, match=r"anomalib:padim learns from normals alone, so that nothing would differ\."):
        check_config(RunConfig(detector="anomalib:padim"))


def test_batches_are_prepared_and_masked() -> None:
    """Labels and masks that lie on other pictures than those they are of would teach the opposite."""
    from kka.detectors.anomalib.training import Batches
    from kka.detectors.graph import Preprocess

    normals, odd = np.zeros((5, 8, 8, 3), np.uint8), np.full((3, 8, 8, 3), 255, np.uint8)
    masks = np.zeros((3, 8, 8), np.uint8)
    masks[:, 2:4, :] = 255
    given = Batches(normals, odd, masks, Preprocess(16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), size=3, seed=0)
    batches = list(given)
    assert [len(batch.image) for batch in batches] == [3, 3, 2] and len(given) == 3
    for batch in batches:
        bright = batch.image.mean(dim=(1, 2, 3)) > 0.5
        assert (bright == batch.gt_label).all()
        assert batch.gt_mask[bright][:, 4:8].all()
        assert not batch.gt_mask[bright][:, :3].any() and not batch.gt_mask[~bright].any()
    assert sum(int(batch.gt_label.sum()) for batch in batches) == 3
    (whole,) = Batches(normals, odd, None, given.prepare, size=9, seed=0)
    assert (whole.gt_mask.float().mean(dim=(1, 2)) == whole.gt_label).all(), "without masks an anomaly is one all over"


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(SMALL))
def test_each_model_trains_scores_and_is_kept(model: str, tmp_path: Path) -> None:
    """A model whose state is not in its weights, or whose scores depend on their neighbours, is none of ours."""
    detector: Detector = small(model).fit(pictures(12))
    images = pictures(5, 2)
    scores = detector.score(images)
    assert scores.shape == (5,) and np.isfinite(scores).all()
    assert scores.std() > 0 or model in FLAT
    alone = np.concatenate([detector.score(images[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(alone, scores, rtol=1e-4, atol=1e-6)
    detector.save(tmp_path / "kept")
    assert sorted(file.name for file in (tmp_path / "kept").iterdir()) == ["detector.json", "weights.safetensors"]
    assert (load_detector(tmp_path / "kept").score(images) == scores).all()
    assert (small(model).fit(pictures(12)).score(images) == scores).all(), "equal seeds"
    assert isinstance(detector, Localises) == MODELS[model].maps
    if isinstance(detector, Localises):
        maps = detector.score_map(pictures(2, 7, 48))
        assert maps.shape == (2, 48, 48) and np.isfinite(maps).all() and (maps.std() > 0 or model in FLAT)
    assert isinstance(detector, Trained) == (MODELS[model].epochs is not None)


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(name for name, model in MODELS.items() if model.anomalies))
def test_what_is_labelled_anomalous_becomes_so(model: str) -> None:
    """Of red and blue patches, those that stood among the anomalies must score higher beside the others than where
    the others stood there."""

    def patches(n: int, seed: int, channel: int | None) -> Images:
        rng = np.random.default_rng(seed)
        ramp = np.linspace(60, 180, 32)[None, :, None, None] * np.ones((n, 1, 32, 3))
        images = ramp + rng.normal(0, 8, (n, 1, 1, 3))
        if channel is not None:
            images[:, 8:24, 8:24, channel] += 70
        return images.clip(0, 255).astype(np.uint8)

    masks = np.zeros((12, 32, 32), np.uint8)
    masks[:, 8:24, 8:24] = 255

    def red_over_blue(channel: int) -> float:
        detector = small(model, "epochs=12")
        assert isinstance(detector, TakesMore) and "masks" in detector.takes
        detector.fit(patches(12, 0, None), patches(12, 5, channel), masks=masks)
        red, blue = (detector.score(patches(12, 8, kind)) for kind in (0, 2))
        return float((red - blue).mean() / np.concatenate([red, blue]).std())

    assert red_over_blue(0) - red_over_blue(2) > 0.5


@pytest.mark.slow
def test_efficient_ad_from_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its teacher in anomalib's cache and a folder of pictures: what it otherwise downloads."""
    from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel, EfficientAdModelSize
    from PIL import Image

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    weights = tmp_path / "anomalib" / "pre_trained" / "efficientad_pretrained_weights"
    weights.mkdir(parents=True)
    teacher = EfficientAdModel(384, EfficientAdModelSize.S, padding=False, pad_maps=True).teacher
    torch.save(teacher.state_dict(), weights / "pretrained_teacher_small.pth")
    (tmp_path / "photos" / "some").mkdir(parents=True)
    for i, image in enumerate(pictures(4, size=80)):
        Image.fromarray(image).save(tmp_path / "photos" / "some" / f"{i}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = build("efficient_ad", "epochs=1", f"imagenet_dir={tmp_path / 'photos'}", backbone=None)
        detector.fit(pictures(8))
        detector.save(tmp_path / "kept")
        scores = detector.score(pictures(3, 2))
        assert (load_detector(tmp_path / "kept").score(pictures(3, 2)) == scores).all() and np.isfinite(scores).all()
