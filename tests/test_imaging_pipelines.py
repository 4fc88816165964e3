"""Pipelines of diffusers before and while they draw: their class, their options, what they are made for, small GPUs."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from imaging_fakes import tiny_pipeline
from kka.algorithm.pictures import REFUSED, unusable
from kka.errors import UserError
from kka.imaging import build_image_model, check_image_model
from kka.imaging.canvas import canvas_for, put_in
from kka.imaging.diffusers import DRAW, DiffusersModel
from kka.imaging.edit import EDIT, instruction
from kka.imaging.img2img import REDRAW
from kka.imaging.inpaint import INPAINT, Inpaint
from kka.imaging.pipeline_class import Job, pipeline_class
from kka.imaging.pipeline_files import Files
from kka.imaging.pipelines import LoadedPipeline, _precision
from kka.imaging.published import made_for
from kka.protocols import Alters
from kka.settings.drawing import DrawingSettings
from pipeline_fakes import checkpoint, clouds

diffusers = pytest.importorskip("diffusers", reason="the optional package diffusers is absent")


def index(folder: Path, kind: str, name: str = "model", **facts: Any) -> Path:
    """A folder with an index and no weights."""
    made = folder / name
    made.mkdir(parents=True)
    (made / "model_index.json").write_text(json.dumps({"_class_name": kind, **facts}))
    return made


# --- which class ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "published", "expected"),
    [
        (DRAW, "StableDiffusionInpaintPipeline", "StableDiffusionPipeline"),
        (DRAW, "Flux2KleinPipeline", "Flux2KleinPipeline"),
        (DRAW, "KandinskyV22Pipeline", "KandinskyV22CombinedPipeline"),
        (DRAW, "EasyAnimatePipeline", "EasyAnimatePipeline"),  # which AutoPipeline does not know
        (INPAINT, "StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"),
        (INPAINT, "ZImagePipeline", "ZImageInpaintPipeline"),
        (INPAINT, "QwenImageEditPipeline", "QwenImageEditInpaintPipeline"),
        (INPAINT, "FluxFillPipeline", "FluxFillPipeline"),
        (INPAINT, "Flux2KleinPipeline", "Flux2KleinInpaintPipeline"),
        (REDRAW, "FluxPipeline", "FluxImg2ImgPipeline"),
        (REDRAW, "QwenImagePipeline", "QwenImageImg2ImgPipeline"),
        (EDIT, "QwenImageEditPlusPipeline", "QwenImageEditPlusPipeline"),
    ],
)
def test_the_class_for_a_job(job: Job, published: str, expected: str) -> None:
    """Weights would be loaded into a pipeline that does something else, or a known model be refused."""
    assert pipeline_class(job, "m", published).__name__ == expected


def test_it_is_what_the_library_chooses(tmp_path: Path) -> None:
    """Pools that were drawn before would not be drawn again by the same class."""
    tiny_pipeline(tmp_path / "x").save_pretrained(tmp_path / "m")
    for job, auto in (
        (DRAW, diffusers.AutoPipelineForText2Image), (INPAINT, diffusers.AutoPipelineForInpainting),
        (REDRAW, diffusers.AutoPipelineForImage2Image),
    ):  # fmt: skip
        chosen = type(auto.from_pretrained(tmp_path / "m"))
        assert pipeline_class(job, "m", "StableDiffusionPipeline") is chosen


@pytest.mark.parametrize(
    ("spec", "kind", "settings", "message"),
    [
        ("diffusers", "NewPipeline", {}, r"of diffusers .* got a model of the class NewPipeline"),
        ("inpaint", "FluxKontextPipeline", {"size": 512}, None),  # by FluxKontextInpaintPipeline
        ("inpaint", "QwenImageEditPlusPipeline", {},
         r"an inpainting pipeline; got a QwenImageEditPlusPipeline, which takes no mask_image. Use edit:"),
        ("img2img", "Flux2KleinPipeline", {}, r"takes no strength\. Use edit: with it"),
        ("edit", "StableDiffusionPipeline", {}, r"takes no image\. Use diffusers: with it"),
        ("img2img", "StableDiffusionPipeline", {"steps": 4, "strength": 0.2},
         r"steps × strength, rounded down; got 4 × 0.2 = 0.8"),
        ("img2img", "StableDiffusionXLPipeline", {"steps": 3}, r"got 3 × 0.3 = 0.9"),
        ("img2img", "StableDiffusionPipeline", {"steps": 4, "strength": 0.25}, None),
        ("inpaint", "StableDiffusionPipeline", {"true_cfg_scale": 2.0},
         r"StableDiffusionInpaintPipeline has \(guidance, negative_prompt, steps, strength\); got true_cfg_scale"),
        ("inpaint", "FluxPipeline", {"true_cfg_scale": 2.0}, None),
        ("edit", "FluxKontextPipeline", {"image_guidance_scale": 2.0}, r"got image_guidance_scale"),
        ("edit", "StableDiffusionInstructPix2PixPipeline", {"image_guidance_scale": 2.0}, None),
        ("edit", "Flux2KleinPipeline", {"negative_prompt": "blur"}, r"got negative_prompt"),
        ("diffusers", "ZImagePipeline", {"negative_prompt": "blur", "guidance": 1.0},
         r"does nothing at a guidance of 1 or less: expected drawing.guidance above 1; got 1\."),
        ("diffusers", "ZImagePipeline", {"negative_prompt": "blur"}, None),
        ("diffusers", "FluxPipeline", {"negative_prompt": "blur"}, r"expected drawing.true_cfg_scale above 1; got 1"),
        ("diffusers", "QwenImagePipeline", {"guidance": 2.0, "true_cfg_scale": 2.0},
         r"it is true_cfg_scale: expected one; got both"),
        ("inpaint", "StableDiffusionPipeline", {"image_guidance_scale": 1.0},
         r"drawing.image_guidance_scale: inpaint:.* has only"),
        ("edit", "FluxKontextPipeline", {"batch_size": 2}, r"drawing.batch_size: edit:.* has only"),
        ("edit", "FluxKontextPipeline", {"economy": ("4bit", "8bit")}, r"one of 4bit and 8bit; got both"),
    ],
)  # fmt: skip
def test_options_are_checked_before_any_weights(
    spec: str, kind: str, settings: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    """A mistake would show after minutes of loading, from inside the pipeline; or it would do nothing, unsaid."""
    folder = index(tmp_path, kind)
    wanted = f"{spec}:{folder}"
    if message is None:
        check_image_model(wanted, settings=DrawingSettings(**settings))
        return
    with pytest.raises(UserError, match=message):
        check_image_model(wanted, settings=DrawingSettings(**settings))
    with pytest.raises(UserError, match=message):
        build_image_model(wanted, settings=DrawingSettings(**settings), device="cpu")


# --- what a model is made for --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "facts", "expected"),
    [
        ("Z-Image-Turbo", "ZImagePipeline", {}, (8, 0.0)),
        ("Z-Image", "ZImagePipeline", {}, (None, None)),
        ("FLUX.2-klein-4B", "Flux2KleinPipeline", {"is_distilled": True}, (4, 1.0)),
        ("FLUX.2-klein-base-4B", "Flux2KleinPipeline", {"is_distilled": False}, (None, None)),
        ("my-copy", "FluxPipeline", {"transformer/config.json": {"guidance_embeds": False}}, (4, 0.0)),
        ("unlike-schnell", "FluxPipeline", {"transformer/config.json": {"guidance_embeds": True}}, (None, None)),
        ("any", "LatentConsistencyModelPipeline", {}, (4, 8.0)),
        ("any", "StableDiffusionPipeline", {"scheduler": ["diffusers", "LCMScheduler"]}, (4, 8.0)),
        ("sdxl-turbo", "StableDiffusionXLPipeline", {}, (4, 0.0)),
        ("Qwen-Image", "QwenImagePipeline", {}, (None, None)),
    ],
)  # fmt: skip
def test_steps_and_guidance_by_the_models_own_files(
    name: str, kind: str, facts: dict[str, Any], expected: tuple[int | None, float | None], tmp_path: Path
) -> None:
    """A word in a name would spoil the pictures of a model that is called like another."""
    parts = {key: facts.pop(key) for key in list(facts) if "/" in key}
    folder = index(tmp_path, kind, name, **facts)
    for part, content in parts.items():
        (folder / part).parent.mkdir()
        (folder / part).write_text(json.dumps(content))
    assert made_for(Files(str(folder), here=True)) == expected


def test_guidance_is_the_one_that_the_pipeline_has() -> None:
    """Qwen-Image leaves its guidance out without a negative prompt, and calls it by another name."""
    from kka.imaging.arguments import call_arguments

    qwen = diffusers.QwenImagePipeline
    assert call_arguments(DRAW, "m", qwen, DrawingSettings(guidance=3.0), steps=5, guidance=3.0) == (
        {"num_inference_steps": 5, "true_cfg_scale": 3.0}, " ",
    )  # fmt: skip
    assert call_arguments(DRAW, "m", qwen, DrawingSettings(guidance=1.0), steps=None, guidance=1.0)[1] is None
    flux = DrawingSettings(guidance=3.0, true_cfg_scale=2.0, negative_prompt="blur", size=(64, 32))
    assert call_arguments(DRAW, "m", diffusers.FluxPipeline, flux, steps=None, guidance=3.0) == (
        {"guidance_scale": 3.0, "true_cfg_scale": 2.0, "height": 64, "width": 32}, "blur",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("device", "bf16", "transformer", "expected"),
    [
        ("cpu", True, True, torch.float32), ("cuda", True, True, torch.bfloat16), ("cuda", True, False, torch.bfloat16),
        ("cuda", False, False, torch.float16), ("cuda", False, True, torch.float32),
        ("mps", False, False, torch.float16),
    ],
)  # fmt: skip
def test_precision(
    device: str, bf16: bool, transformer: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pipelines with a transformer give black pictures in float16. (On a GPU it has not been run.)"""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
    assert _precision("auto", torch.device(device), transformer=transformer) is expected
    assert _precision("bfloat16", torch.device(device), transformer=transformer) is torch.bfloat16


# --- small GPUs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("pipelines"), "sd")


def test_slicing_and_tiling_reach_the_autoencoder(stable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that is taken and does nothing leaves the GPU full. Slices give the same pictures: the cache holds."""
    compiled: list[str] = []
    monkeypatch.setattr(
        diffusers.UNet2DConditionModel, "compile_repeated_blocks", lambda self: compiled.append("unet")
    )
    plain = DiffusersModel(str(stable), device="cpu")
    thrifty = DiffusersModel(
        str(stable), settings=DrawingSettings(economy=("vae-slicing", "compile")), device="cpu"
    )
    assert thrifty._loaded.pipeline.vae.use_slicing and not plain._loaded.pipeline.vae.use_slicing
    assert compiled == ["unet"] and thrifty.identity == plain.identity
    tiled = DiffusersModel(str(stable), settings=DrawingSettings(economy=("vae-tiling",)), device="cpu")
    assert tiled._loaded.pipeline.vae.use_tiling and tiled.identity != plain.identity


def test_what_this_machine_cannot_do_is_said(stable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback from inside a library names neither the option nor the package."""
    with pytest.raises(UserError, match="economy offload: expected a GPU"):
        DiffusersModel(str(stable), settings=DrawingSettings(economy=("offload",)), device="cpu")
    monkeypatch.setattr("kka.imaging.pipelines.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"economy 4bit: expected the package bitsandbytes.*pip install 'kka\[4bit\]'"):
        DiffusersModel(str(stable), settings=DrawingSettings(economy=("4bit",)), device="cpu")


def test_the_identity_is_that_of_stored_pools(stable: Path) -> None:
    """Pictures in caches and pools, drawn before there was more than one kind of pipeline, would be drawn anew."""
    from hashlib import blake2b

    files = sorted(file for file in stable.rglob("*") if file.is_file())
    prints = repr([(str(f.relative_to(stable)), f.stat().st_size, f.stat().st_mtime_ns) for f in files])
    shaping = repr([None, None, "torch.float32", [("num_inference_steps", 3)], None])
    digest = blake2b(f"{prints}{shaping}".encode(), digest_size=8).hexdigest()
    model = DiffusersModel(str(stable), settings=DrawingSettings(steps=3), device="cpu")
    assert model.identity == f"diffusers:{stable}:{digest}"


# --- on a photo ----------------------------------------------------------------------------------------------------


def test_the_canvas_keeps_the_photos_proportions() -> None:
    """A photo that is squashed for the model is drawn on as another object."""
    flux = loaded(default_sample_size=128, vae_scale_factor=8)
    canvas = canvas_for(flux, (100, 200), None)
    assert (canvas.height, canvas.width) == (720, 1456)  # 724 x 1448, to sixteens: 45.25 and 90.5
    assert canvas.cell == 2  # 8 x 200 / 1456 = 1.1
    asked, unasked = canvas_for(flux, (128, 128), (64, 96)), canvas_for(flux, (128, 128), None)
    assert (asked.height, asked.width, unasked.height, unasked.width) == (64, 96, 1024, 1024)
    unet = SimpleNamespace(config=SimpleNamespace(sample_size=64))
    assert canvas_for(loaded(unet=unet, vae_scale_factor=8), (9, 9), None).width == 512


def loaded(**pipeline: Any) -> LoadedPipeline:
    """Of which only the sizes count."""
    return LoadedPipeline(
        pipeline=SimpleNamespace(**pipeline), path="m", device=torch.device("cpu"), dtype=torch.float32, arguments={},
        negative_prompt=None, identity="i", steps=None, guidance=None,
    )  # fmt: skip


def test_a_refused_picture_says_so_itself(stable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blanked picture, taken from the cache a day later, must still not enter the pool, and say why."""
    model = build_image_model(f"inpaint:{stable}", settings=DrawingSettings(steps=1), device="cpu")
    assert isinstance(model, Inpaint)
    whole = type(model._loaded.pipeline).__call__

    def checked(self: Any, **given: Any) -> Any:
        made = whole(self, **given)
        return SimpleNamespace(images=made.images, nsfw_content_detected=[False, True])

    monkeypatch.setattr(type(model._loaded.pipeline), "__call__", checked)
    altered = model.alter(clouds(2, 20, 24), ["a scratch", "a hole"], seeds=[1, 2])
    assert [unusable(image) for image in altered.images] == [None, "refused by the model's safety checker"]
    assert (altered.masks[1] == 255).all() and 0 < (altered.masks[0] > 0).mean() < 0.9
    black = put_in(clouds(1, 8, 8)[0], np.zeros((16, 16, 3), np.uint8), np.zeros((8, 8), np.uint8))[0]
    assert "black" in (unusable(black) or "") and unusable(np.full((4, 4, 3), REFUSED, np.uint8)) is not None


def test_the_masks_are_those_of_paint(stable: Path) -> None:
    """What is drawn lies where the caption says, and nothing that `paint` covers is left undrawn."""
    from kka.imaging.paint.painter import Paint

    normals, captions = clouds(3, 48, 48), ["a long thin scratch near the left edge", "two dark stains", "a hole"]
    model = build_image_model(f"inpaint:{stable}", settings=DrawingSettings(steps=1), subject="a tile", device="cpu")
    assert isinstance(model, Alters)
    masks = model.alter(normals, captions, seeds=[5, 6, 7]).masks
    painted = Paint(subject="a tile").alter(normals, captions, seeds=[5, 6, 7]).masks
    for mask, shape in zip(masks, painted, strict=True):
        assert (mask[shape >= 64] == 255).all()
        assert (shape >= 64).sum() < (mask > 0).sum() < 12 * (shape > 0).sum() + 100
    other = build_image_model(f"inpaint:{stable}", settings=DrawingSettings(steps=1), subject="a crack", device="cpu")
    assert other.identity != model.identity


def test_an_instruction() -> None:
    """An editor that is shown a caption alone does not know what to do, or does it to the whole photo."""
    assert instruction(" a tile with a thin scratch. ") == (
        "Add to this photo what makes it a tile with a thin scratch. Change nothing else."
    )
    assert instruction("Add a thin scratch") == "Add a thin scratch. Change nothing else."
