"""The contract of an image model (Eq. 4), over every member of the family."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from imaging_fakes import ImageServer, tiny_pipeline
from kka.algorithm.pictures import draw_pictures
from kka.errors import UserError
from kka.imaging import IMAGE_MODELS, build_image_model
from kka.protocols import ImageModel
from kka.settings.drawing import DrawingSettings
from kka.task import Knowledge

Builder = Callable[[], ImageModel]
NAMES = ("bank", "diffusers", "garden", "openai")
ALTERING = ("paint", "inpaint", "img2img", "edit")
"""Those that alter normals: see `test_imaging_altering`."""
CAPTIONS = [
    "a red flower with five round petals",
    "una flor azul, 青い花 🌷",
    "a very long caption about petals and leaves, " * 60,  # 540 words: CLIP reads 77 tokens
    "",
    "a red flower with five round petals",
]
SEEDS = [3, 1, 4, 1, 5]


def test_every_member_is_tested() -> None:
    """A new member would not be held to the contract."""
    assert {*NAMES, *ALTERING} == {*IMAGE_MODELS}
    assert len(NAMES) == 4


@pytest.fixture(scope="module")
def builders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Builder]]:
    """How to build a small one of each member."""
    folder = tmp_path_factory.mktemp("contract")
    rng = np.random.default_rng(0)
    knowledge = Knowledge(
        images=rng.integers(0, 256, (40, 8, 12, 3), np.uint8),
        captions=(("a red flower", "round petals"), ("a blue flower",)) * 20,
        kinds=("flower",) * 40,
    )

    def diffusers() -> ImageModel:
        pytest.importorskip("diffusers", reason="the optional package diffusers is absent")
        if not (folder / "tiny").exists():
            tiny_pipeline(folder).save_pretrained(folder / "tiny")
        return build_image_model(
            f"diffusers:{folder / 'tiny'}", settings=DrawingSettings(steps=1, size=(48, 64)), device="cpu"
        )

    def garden() -> ImageModel:
        if find_spec("kka.imaging.garden") is None:
            pytest.skip("the garden is not here")
        return build_image_model("garden")

    with ImageServer.running() as server:
        yield {
            "bank": lambda: build_image_model("bank", knowledge=knowledge),
            "diffusers": diffusers,
            "garden": garden,
            "openai": lambda: build_image_model(
                "openai:any", base_url=server.url, settings=DrawingSettings(size=(10, 20)), send_seed=True
            ),
        }


@pytest.fixture(scope="module", params=NAMES)
def build(request: pytest.FixtureRequest, builders: dict[str, Builder]) -> Builder:
    """One member's builder."""
    return builders[request.param]


@pytest.fixture(scope="module")
def model(build: Builder) -> ImageModel:
    """One member."""
    return build()


@pytest.fixture(scope="module")
def pictures(model: ImageModel) -> np.ndarray:
    """What it draws for CAPTIONS."""
    return model.draw(CAPTIONS, seeds=SEEDS)


def test_shape_and_dtype(model: ImageModel, pictures: np.ndarray) -> None:
    """Captions in other scripts, very long or empty would stop a run, or give pictures that do not stack."""
    assert isinstance(model, ImageModel)
    assert pictures.dtype == np.uint8
    assert pictures.ndim == 4
    assert pictures.shape[::3] == (len(CAPTIONS), 3)
    assert pictures.min() < pictures.max()


def test_equal_for_equal_seeds_also_in_another_instance(
    build: Builder, model: ImageModel, pictures: np.ndarray
) -> None:
    """A resumed run, which builds its model anew, would go on with other pictures."""
    np.testing.assert_array_equal(model.draw(CAPTIONS, seeds=SEEDS), pictures)
    other = build()
    assert other.identity == model.identity
    np.testing.assert_array_equal(other.draw(CAPTIONS, seeds=SEEDS), pictures)


def test_the_seed_counts(pictures: np.ndarray) -> None:
    """One caption would always give one picture."""
    assert CAPTIONS[0] == CAPTIONS[4]
    assert not np.array_equal(pictures[0], pictures[4])


def test_a_picture_does_not_depend_on_its_neighbours(model: ImageModel, pictures: np.ndarray) -> None:
    """Batches of another size, or captions left out as cached, would change the pictures."""
    order = [4, 2, 0]
    some = model.draw([CAPTIONS[i] for i in order], seeds=[SEEDS[i] for i in order])
    for place, i in enumerate(order):
        alone = model.draw([CAPTIONS[i]], seeds=[SEEDS[i]])[0]
        for drawn in (some[place], alone):  # one grey level: a sum over another batch may round otherwise
            assert abs(drawn.astype(int) - pictures[i]).max() <= 1


def test_no_captions_no_pictures(model: ImageModel, pictures: np.ndarray) -> None:
    """An empty round would crash, or give an array that does not stack with others."""
    none = model.draw([], seeds=[])
    assert (none.shape, none.dtype) == ((0, *pictures.shape[1:]), np.uint8)


def test_what_it_draws_goes_through_eq_4(model: ImageModel) -> None:
    """The member and the stage that calls it would not fit together."""
    steps: list[tuple[int, int]] = []
    drawn = draw_pictures(
        model, CAPTIONS, seeds=SEEDS, size=(16, 16), batch_size=2, progress=lambda *step: steps.append(step)
    )
    assert drawn.images.shape == (len(drawn.kept), 16, 16, 3)
    assert len(drawn.kept) + len(drawn.set_aside) == len(CAPTIONS)
    assert steps[-1] == (5, 5)


def test_wrong_specs_and_options_list_the_known_ones(tmp_path: Path) -> None:
    """A slip of the pen would end in a traceback, or be ignored."""
    listed = (
        r"one of bank, diffusers, edit, garden, img2img, inpaint, openai, paint, or your own class as "
        r"package\.module:Class; got 'bnk:x', and"
    )
    with pytest.raises(UserError, match=listed):
        build_image_model("bnk:x")
    with pytest.raises(UserError, match=r"option of image model diffusers: expected one of .*dtype.*got 'step'"):
        build_image_model(f"diffusers:{tmp_path}", step=3)
    for spec in ("diffusers", "openai:"):
        with pytest.raises(UserError, match=r"expected .* after '(diffusers|openai):'; got nothing"):
            build_image_model(spec)
    if find_spec("kka.imaging.garden") is not None:
        with pytest.raises(UserError, match=r"with nothing after it; got 'garden:x'"):
            build_image_model("garden:x")


OPTIONS = {
    "steps": 3, "guidance": 2.0, "size": 16, "batch_size": 2, "negative_prompt": "blur", "embedding": "hf:x",
    "set": ("x=1",), "strength": 0.5, "true_cfg_scale": 2.0, "image_guidance_scale": 2.0, "economy": ("compile",),
}  # fmt: skip
PIPELINE = {"steps", "guidance", "true_cfg_scale", "size", "negative_prompt", "economy"}
KNOWN: dict[str, set[str]] = {
    "garden": set(),
    "paint": set(),
    "bank": {"embedding"},
    "bank:folder": {"embedding", "size"},
    "openai:any": {"size"},
    "diffusers:folder": {*PIPELINE, "batch_size"},
    "inpaint:folder": {*PIPELINE, "batch_size", "strength"},
    "img2img:folder": {*PIPELINE, "batch_size", "strength"},
    "edit:folder": {*PIPELINE, "image_guidance_scale"},
}
"""Member -> the settings it has. An option of the command line is one of these settings."""


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("spec", KNOWN)
def test_a_setting_that_a_member_does_not_have_is_refused(spec: str, option: str, tmp_path: Path) -> None:
    """It ended a run after its captions were written, or was left aside and taken to have worked."""
    assert {*OPTIONS} == {field.name for field in dataclasses.fields(DrawingSettings)}
    assert {name.partition(":")[0] for name in KNOWN} == {*IMAGE_MODELS}
    settings = DrawingSettings(**{option: OPTIONS[option]})  # type: ignore[arg-type]
    (tmp_path / "folder").mkdir()
    named = spec.replace("folder", str(tmp_path / "folder"))
    knowledge = Knowledge(images=np.zeros((1, 8, 8, 3), np.uint8), captions=(("red",),), kinds=("flower",))
    refused = rf"drawing\.{option}: .* has only"
    try:
        more = {"api_key": "x"} if "openai" in spec else {}
        build_image_model(named, settings=settings, knowledge=knowledge, **more)
    except UserError as error:  # beyond the settings: a folder without a model, or without pictures
        assert (re.search(refused, str(error)) is None) == (option in KNOWN[spec]), error
    else:
        assert option in KNOWN[spec]
