"""The contract of models that alter photos (Eq. 4), over every member: `paint`, and pipelines of diffusers."""

from pathlib import Path

import numpy as np
import pytest

from kka.errors import UserError
from kka.imaging import IMAGE_MODELS, build_image_model
from kka.protocols import Altered, Alters, Images, LeavesTraces
from kka.settings.drawing import DrawingSettings
from pipeline_fakes import MEMBERS, SIDE, checkpoint, clouds

CAPTIONS = ["a grey tile with a deep scratch", "a large dark stain", "ein tiefes Loch 🌷"]
SEEDS = [3, 1, 4]
PAINT = ("paint", "")


def photos(n: int = 3) -> Images:
    """Neither square nor of the model's size."""
    return clouds(3, 20, 24)[:n]


def build(folder: Path, member: tuple[str, str]) -> Alters:
    """A small one, that draws few steps at few pixels."""
    kind, name = member
    if kind == "paint":
        made = build_image_model("paint")
    else:
        pytest.importorskip("diffusers", reason="the optional package diffusers is absent")
        strength = {} if kind == "edit" else {"strength": 1.0}
        size = {} if name == "pix2pix" else {"size": SIDE}
        settings = DrawingSettings(steps=2, **strength, **size)  # type: ignore[arg-type]
        made = build_image_model(f"{kind}:{checkpoint(folder, name)}", settings=settings, device="cpu")
    assert isinstance(made, Alters)
    return made


def test_every_member_is_tested() -> None:
    """A new member would not be held to the contract."""
    draws = {"bank", "diffusers", "garden", "openai"}  # tests/test_imaging_contract.py
    assert {kind for kind, _ in (PAINT, *MEMBERS)} | draws == {*IMAGE_MODELS}
    assert len(MEMBERS) == 9


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("altering")


@pytest.fixture(scope="module", params=(PAINT, *MEMBERS), ids="-".join)
def member(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture(scope="module")
def model(checkpoints: Path, member: tuple[str, str]) -> Alters:
    return build(checkpoints, member)


@pytest.fixture(scope="module")
def altered(model: Alters) -> Altered:
    return model.alter(photos(), CAPTIONS, seeds=SEEDS)


def test_shape_dtype_and_what_is_given(model: Alters, altered: Altered) -> None:
    """Pictures of another size do not fit their normals; a normal painted over is no normal any more."""
    given = photos()
    model.alter(given, CAPTIONS, seeds=SEEDS)
    np.testing.assert_array_equal(given, photos())
    assert altered.images.shape == given.shape and altered.images.dtype == np.uint8
    assert altered.masks.shape == given.shape[:3] and altered.masks.dtype == np.uint8


def test_the_normal_outside_of_the_mask_to_the_last_bit(altered: Altered) -> None:
    """A detector would learn what the model does to every pixel, and not the defect."""
    outside = altered.masks == 0
    np.testing.assert_array_equal(altered.images[outside], photos()[outside])
    assert 0.01 < (~outside).mean() < 0.99
    assert (altered.images != photos())[~outside].any(axis=-1).mean() > 0.3


def test_equal_for_equal_seeds_also_in_another_instance(
    checkpoints: Path, member: tuple[str, str], model: Alters, altered: Altered
) -> None:
    """A resumed run, which builds its model anew, would go on with other pictures."""
    other = build(checkpoints, member)
    again = other.alter(photos(), CAPTIONS, seeds=SEEDS)
    assert other.identity == model.identity
    np.testing.assert_array_equal(again.images, altered.images)
    np.testing.assert_array_equal(again.masks, altered.masks)


def test_a_picture_does_not_depend_on_its_neighbours(model: Alters, altered: Altered) -> None:
    """Within rounding: sums over another batch differ in the last bits of floats, so that what is drawn may differ by a
    grey level, and a pixel at the limit of what counts as changed may fall on its other side."""
    for i in (2, 0):
        alone = model.alter(photos()[i : i + 1], CAPTIONS[i : i + 1], seeds=SEEDS[i : i + 1])
        alike = alone.masks[0] == altered.masks[i]
        assert alike.mean() > 0.97
        apart = alone.images[0].astype(int) - altered.images[i]
        assert abs(apart[alike]).max() <= 1


def test_seed_and_normal_count(model: Alters, altered: Altered) -> None:
    """One caption would always give one defect; or another photo the same picture."""
    other_seeds = model.alter(photos()[:1], CAPTIONS[:1], seeds=[77])
    assert not np.array_equal(other_seeds.images[0], altered.images[0])
    brighter = np.clip(photos()[:1].astype(int) + 20, 0, 255).astype(np.uint8)
    other_normal = model.alter(brighter, CAPTIONS[:1], seeds=SEEDS[:1])
    inside = (other_normal.masks[0] > 0) & (altered.masks[0] > 0)
    if inside.any():
        assert not np.array_equal(other_normal.images[0][inside], altered.images[0][inside])


def test_the_caption_counts(model: Alters, altered: Altered) -> None:
    """Every caption would give the same defect."""
    other = model.alter(photos()[:1], ["a tiny bright speck in the corner"], seeds=SEEDS[:1])
    assert not np.array_equal(other.images[0], altered.images[0])


def test_none_and_too_few(model: Alters) -> None:
    """An empty round would crash; a seed too few would leave the last picture out."""
    none = model.alter(photos(0), [], seeds=[])
    assert none.images.shape == (0, 20, 24, 3) and none.masks.shape == (0, 20, 24)
    with pytest.raises(UserError, match="expected a normal, a caption and a seed for each picture; got 3, 3 and 2"):
        model.alter(photos(), CAPTIONS, seeds=SEEDS[:2])


def test_traces_are_the_normals_but_in_the_masks(
    model: Alters, altered: Altered, member: tuple[str, str]
) -> None:
    """The control would differ from the anomalies in more than the defect; `paint` has no ways of drawing to leave."""
    assert isinstance(model, LeavesTraces) == (member != PAINT)
    if not isinstance(model, LeavesTraces):
        return
    traces = model.traces(photos(), altered.masks)
    assert traces.shape == photos().shape and traces.dtype == np.uint8
    outside = altered.masks == 0
    np.testing.assert_array_equal(traces[outside], photos()[outside])
    assert (traces != photos())[~outside].any() and not np.array_equal(traces, altered.images)
    alone = model.traces(photos()[1:2], altered.masks[1:2])
    np.testing.assert_array_equal(alone[0], traces[1])
