"""Diffusion models, through a tiny random Stable Diffusion checkpoint that is made on the spot."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imaging_fakes import SIZE, tiny_pipeline
from kka.algorithm.pictures import draw_pictures
from kka.common.cache import ImageCache
from kka.errors import UserError
from kka.imaging import build_image_model
from kka.imaging.diffusers import DiffusersModel
from kka.settings.drawing import DrawingSettings

diffusers = pytest.importorskip("diffusers", reason="the optional package diffusers is absent")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as save_pretrained writes it; its name has a space and a letter beyond ASCII."""
    folder = tmp_path_factory.mktemp("diffusion")
    tiny_pipeline(folder).save_pretrained(folder / "tiny modèle")
    return folder / "tiny modèle"


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> DiffusersModel:
    """Two steps, on the CPU."""
    built = build_image_model(
        f"diffusers:{checkpoint}", settings=DrawingSettings(steps=2, guidance=4.0, batch_size=3), device="cpu"
    )
    assert isinstance(built, DiffusersModel)
    return built


CAPTIONS = ["a red flower", "a blue one", "ein weißer Kelch 花 🌷", "petals, " * 200, ""]


def test_a_picture_depends_on_its_caption_and_seed_alone(model: DiffusersModel) -> None:
    """A batch of another size, or other neighbours, would change the pictures: a resumed run would differ."""
    together = model.draw(CAPTIONS, seeds=range(5))
    assert (together.shape, together.dtype) == ((5, SIZE, SIZE, 3), np.uint8)
    for i in (0, 2, 4):
        alone = model.draw(CAPTIONS[i : i + 1], seeds=[i])
        assert abs(alone[0].astype(int) - together[i]).max() <= 1  # sums in another order round otherwise
    again = model.draw(CAPTIONS, seeds=range(5))
    np.testing.assert_array_equal(again, together)


def test_seed_and_caption_both_count(model: DiffusersModel) -> None:
    """All seeds would give one picture, or the caption would be ignored."""
    pictures = model.draw(["a red flower"] * 2 + ["a blue one"], seeds=[1, 2, 1]).astype(int)
    assert abs(pictures[0] - pictures[1]).max() > 20
    assert abs(pictures[0] - pictures[2]).max() > 1


def test_it_draws_what_the_library_draws(checkpoint: Path, model: DiffusersModel) -> None:
    """A wrong cast, range or axis would still give pictures of the right shape."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(7)
    expected = pipeline("a red flower", num_inference_steps=2, guidance_scale=4.0, generator=generator).images[0]
    np.testing.assert_array_equal(model.draw(["a red flower"], seeds=[7])[0], np.asarray(expected))


def test_options_reach_the_pipeline_and_the_identity(checkpoint: Path, model: DiffusersModel) -> None:
    """Pictures drawn with other settings would be taken from the cache."""
    options: dict[str, Any] = {"steps": 2, "guidance": 4.0}
    identities = {model.identity}
    plain = model.draw(["a"], seeds=[1])
    for name, value in (("steps", 3), ("guidance", 1.0), ("negative_prompt", "blurred"), ("size", (32, 48))):
        other = DiffusersModel(str(checkpoint), settings=DrawingSettings(**{**options, name: value}), device="cpu")
        identities.add(other.identity)
        drawn = other.draw(["a"], seeds=[1])
        if name == "size":
            assert drawn.shape == (1, 32, 48, 3)
            assert other.draw([], seeds=[]).shape == (0, 32, 48, 3)
        else:
            assert not np.array_equal(drawn, plain), name
    assert len(identities) == 5
    alone = DiffusersModel(str(checkpoint), settings=DrawingSettings(**options, batch_size=1), device="cpu")
    assert alone.identity == model.identity


def test_another_model_in_the_same_folder_has_another_identity(checkpoint: Path, tmp_path: Path) -> None:
    """After a folder's weights were replaced, the cache would give pictures of the old ones."""
    shutil.copytree(checkpoint, tmp_path / "m")
    before = DiffusersModel(str(tmp_path / "m"), device="cpu").identity
    weights = tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes())
    assert DiffusersModel(str(tmp_path / "m"), device="cpu").identity != before


@pytest.mark.parametrize(("name", "steps", "guidance"), [("sd-turbo", 4, 0.0), ("LCM_x", 4, 8.0), ("sd", None, None)])
def test_few_step_models_are_known_by_name(
    checkpoint: Path, tmp_path: Path, name: str, steps: int | None, guidance: float | None
) -> None:
    """A turbo model would draw with fifty steps and a guidance that spoils its pictures."""
    shutil.copytree(checkpoint, tmp_path / name)
    model = DiffusersModel(str(tmp_path / name), device="cpu")
    assert (model.steps, model.guidance) == (steps, guidance)
    own = DrawingSettings(steps=2, guidance=1.5)
    assert DiffusersModel(str(tmp_path / name), settings=own, device="cpu").steps == 2


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # torch's, from inside a scheduler
def test_non_finite_pictures_are_black_with_a_warning(checkpoint: Path, tmp_path: Path) -> None:
    """NaN, as half precision gives it, would be cast to arbitrary bytes and join the pool."""
    model = DiffusersModel(str(checkpoint), settings=DrawingSettings(steps=1), device="cpu")
    with torch.no_grad():
        model._loaded.pipeline.vae.decoder.conv_out.bias[1] = torch.nan
    cache = ImageCache(tmp_path)
    with pytest.warns(UserWarning, match=r"2 of 2 pictures came out non-finite in torch\.float32.*try dtype"):
        drawn = draw_pictures(model, ["a", "b"], seeds=[1, 2], cache=cache)
    assert (drawn.kept, drawn.drawn) == ((), 2)
    assert {reason.split(":")[0] for _, reason in drawn.set_aside} == {"black"}


def test_what_a_safety_checker_refuses_is_set_aside(checkpoint: Path, tmp_path: Path) -> None:
    """Blanked pictures would join the pool as anomalies."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    tiny = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**tiny, "image_size": 32, "patch_size": 16}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=tiny, vision_config=vision, projection_dim=16))
    checker.concept_embeds_weights.data.fill_(-10.0)  # every picture is over every threshold
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        checkpoint,
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        requires_safety_checker=True,
    )
    pipeline.save_pretrained(tmp_path / "strict")
    model = DiffusersModel(str(tmp_path / "strict"), settings=DrawingSettings(steps=1), device="cpu")
    drawn = draw_pictures(model, ["a", "b"], seeds=[1, 2])
    assert drawn.kept == ()
    assert [reason for _, reason in drawn.set_aside] == ["refused by the model's safety checker"] * 2


def test_weights_in_pickle_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    """A downloaded model could run code while it loads."""
    shutil.copytree(checkpoint, tmp_path / "m")
    weights = tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    torch.save({}, weights.with_suffix(".bin"))
    with pytest.raises(UserError, match="safetensors weights, or its id"):
        DiffusersModel(str(tmp_path / "m"), device="cpu")


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument:UserWarning")  # diffusers' own
def test_a_model_that_is_not_there_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong name, or a machine without a network, would end in a traceback."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"'kka-tests/no-such-model' cannot.*check the spelling and the network"):
        DiffusersModel("kka-tests/no-such-model", device="cpu")
    with pytest.raises(UserError, match="image model: there is no folder"):
        DiffusersModel(str(tmp_path / "nowhere"), device="cpu")
    with pytest.raises(UserError, match=r"lacks model_index\.json"):
        DiffusersModel(str(tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "expected drawing.steps to be a whole number from 1 to 1,000; got drawing.steps = 0"),
        ({"batch_size": 0}, "expected drawing.batch_size to be a whole number from 1 to"),
        ({"size": 100}, r"drawing.size: expected multiples of 8 pixels; got \(100, 100\)"),
        ({"guidance": float("nan")}, r"expected drawing.guidance to be a number from -1e\+09 to 1e\+09; got"),
    ],
)
def test_wrong_options_are_refused_before_loading(options: dict[str, Any], message: str) -> None:
    """A mistake would show after minutes of loading, or as an error from inside the pipeline."""
    with pytest.raises(UserError, match=message):
        DiffusersModel("nowhere", device="cpu", settings=DrawingSettings(**options))
    with pytest.raises(UserError, match="unknown dtype: expected one of auto, bfloat16"):
        DiffusersModel("nowhere", device="cpu", dtype="int8")


def test_a_full_device_says_what_to_do(model: DiffusersModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run would end in a traceback that does not name the option to change."""

    class Full:
        def __call__(self, **options: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model._loaded, "pipeline", Full())
    with pytest.raises(UserError, match=r"room on cpu for 1 pictures.*Give a smaller batch_size or size"):
        model.draw(["a"], seeds=[1])


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers is an optional extra: its absence would look like a fault."""
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install 'kka\[diffusers\]'"):
        DiffusersModel("any", device="cpu")
