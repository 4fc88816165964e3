"""The training views, against torchvision and a literal reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from kka.common.augment import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LUMA,
    augment,
    colour_matrices,
    crop_boxes,
    normalise,
    resize,
)
from reference.augmented_view import bilinear_crop, coloured


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def middling(n: int, seed: int = 0) -> torch.Tensor:
    """Images whose colours stay within [0, 1] under the jitters below: nothing is clipped."""
    return 0.35 + 0.2 * torch.rand(n, 3, 9, 7, generator=generator(seed))


def apply(images: torch.Tensor, matrix: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """The colour change as the module documents it."""
    grey = torch.einsum("c,bchw->b", torch.tensor(LUMA), images) / images[0, 0].numel()
    return torch.einsum("bij,bjhw->bihw", matrix, images) + (offset * grey)[:, None, None, None]


def jitter(n: int, strength: tuple[float, ...], **odds: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Matrices and offsets, with the uniform numbers that they were drawn from."""
    odds = {"p_jitter": 1.0, "p_grey": 0.0} | odds
    matrix, offset = colour_matrices(n, strength=strength, generator=generator(1), **odds)
    return matrix, offset, torch.rand(n, 6, generator=generator(1))


@pytest.mark.parametrize(
    ("part", "adjust"), [(0, tv.adjust_brightness), (1, tv.adjust_contrast), (2, tv.adjust_saturation)]
)
def test_each_jitter_is_torchvisions(part: int, adjust) -> None:
    """A brightness, contrast or saturation of another meaning would not be the published augmentation."""
    images = middling(8)
    strength = [0.0] * 4
    strength[part] = 0.4
    matrix, offset, u = jitter(8, tuple(strength))
    factors = 1 + 0.4 * (2 * u[:, part] - 1)
    expected = torch.stack([adjust(x, float(f)) for x, f in zip(images, factors, strict=True)])
    # torchvision rounds the luma weights to four digits
    torch.testing.assert_close(apply(images, matrix, offset), expected, atol=2e-4, rtol=0)


def test_jitters_in_a_row_are_torchvisions() -> None:
    """Brightness, then contrast, then saturation: the one matrix must equal the three steps."""
    images = middling(8)
    matrix, offset, u = jitter(8, (0.3, 0.3, 0.3, 0.0))
    b, c, s = (1 + 0.3 * (2 * u[:, :3] - 1)).unbind(1)
    steps = [
        tv.adjust_saturation(tv.adjust_contrast(tv.adjust_brightness(x, float(b[i])), float(c[i])), float(s[i]))
        for i, x in enumerate(images)
    ]
    torch.testing.assert_close(apply(images, matrix, offset), torch.stack(steps), atol=4e-4, rtol=0)


def test_grey_is_torchvisions() -> None:
    """Greyscale: the luma in all three channels, whatever hue and saturation were drawn."""
    images = middling(8)
    matrix, offset, _ = jitter(8, (0.0, 0.0, 0.4, 0.1), p_grey=1.0)
    expected = torch.stack([tv.rgb_to_grayscale(x, num_output_channels=3) for x in images])
    torch.testing.assert_close(apply(images, matrix, offset), expected, atol=2e-4, rtol=0)


def test_hue_keeps_the_luma_and_the_greys() -> None:
    """A hue turn changes neither how bright a colour is nor any grey."""
    matrix, offset, _ = jitter(16, (0.0, 0.0, 0.0, 0.5))
    luma = torch.tensor(LUMA)
    torch.testing.assert_close(luma @ matrix, luma.expand(16, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(matrix @ torch.ones(3), torch.ones(16, 3), atol=1e-5, rtol=0)
    assert not offset.any()
    assert (matrix - torch.eye(3)).abs().amax() > 0.3


def test_hue_turns_add_up_and_a_full_turn_is_none() -> None:
    """Twice the strength is twice the angle; an angle of 2 pi is the identity."""
    once, twice = jitter(6, (0.0, 0.0, 0.0, 0.07))[0], jitter(6, (0.0, 0.0, 0.0, 0.14))[0]
    torch.testing.assert_close(once @ once, twice, atol=1e-5, rtol=0)
    u = float(jitter(1, (0.0, 0.0, 0.0, 0.1))[2][0, 3])
    full = jitter(1, (0.0, 0.0, 0.0, 1 / (2 * u - 1)))[0]
    torch.testing.assert_close(full[0], torch.eye(3), atol=1e-5, rtol=0)


def test_odds_and_ranges_of_the_colours() -> None:
    """Jitter with p = .8, grey with p = .2, factors within 1 -+ .4: else training is not the published one."""
    n = 20_000
    matrix, offset = colour_matrices(n, generator=generator())
    untouched = ((matrix - torch.eye(3)).abs().amax(dim=(1, 2)) < 1e-6).float().mean()
    grey = ((matrix - matrix[:, :1]).abs().amax(dim=(1, 2)) < 1e-6).float().mean()
    assert untouched == pytest.approx(0.2 * 0.8, abs=0.012)
    assert grey == pytest.approx(0.2, abs=0.012)
    # on grey the matrix acts as brightness x contrast, and with the offset as brightness alone
    brightness = (matrix @ torch.ones(3))[:, 0] + offset
    assert brightness.min() > 0.599 and brightness.max() < 1.401
    assert brightness.std() == pytest.approx(math.sqrt(0.8 * 0.4**2 / 3), rel=0.03)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), low=st.floats(0.05, 0.7))
def test_crops_stay_inside(seed: int, low: float) -> None:
    """A crop that leaves the image would train on smeared borders; one too small or too large is not the recipe."""
    centre, half = crop_boxes(64, scale=(low, 1.0), generator=generator(seed))
    assert (centre.abs() + half <= 1 + 1e-6).all() and (half > 0).all()
    area = half.prod(dim=1)  # of the [-1, 1] square's area 4, as half-sizes
    assert (area >= low - 1e-6).all() and (area <= 1 + 1e-6).all()
    ratio = half[:, 0] / half[:, 1]
    assert (ratio >= 3 / 4 - 1e-5).all() and (ratio <= 4 / 3 + 1e-5).all()


def test_crops_are_spread() -> None:
    """Areas uniform from .2 (below where the largest crops are cut to the image), centres on all sides."""
    centre, half = crop_boxes(20_000, scale=(0.2, 1.0), generator=generator())
    area = half.prod(dim=1)
    assert (area < 0.4).float().mean() == pytest.approx(0.25, abs=0.02)
    assert (area < 0.6).float().mean() == pytest.approx(0.5, abs=0.02)
    assert centre.mean(dim=0).abs().max() < 0.01


def test_views_equal_the_literal_reference() -> None:
    """Crop, flip, colour, clipping and normalisation in one pass must equal the same steps pixel by pixel."""
    n, size = 6, 5
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 3, 9, 12), dtype=np.uint8))
    got = augment(images, size, generator=generator(4))
    same = generator(4)
    centre, half = crop_boxes(n, scale=(0.2, 1.0), generator=same)
    flipped = torch.rand(n, generator=same) < 0.5
    matrix, offset = colour_matrices(n, generator=same)
    assert flipped.any() and not flipped.all()
    for i in range(n):
        picture = images[i].permute(1, 2, 0).double().numpy() / 255
        crop = bilinear_crop(picture, tuple(centre[i].tolist()), tuple(half[i].tolist()), bool(flipped[i]), size)
        expected = coloured(crop, matrix[i].double().numpy(), float(offset[i]))
        np.testing.assert_allclose(got[i].permute(1, 2, 0).numpy(), expected, atol=2e-4)


def test_half_are_flipped() -> None:
    """A ramp from left to right runs the other way in half of the views."""
    ramp = torch.linspace(60, 190, 16).round().to(torch.uint8).expand(400, 3, 16, 16)
    views = augment(ramp, 8, generator=generator())
    slope = views[..., -1].mean(dim=(1, 2)) - views[..., 0].mean(dim=(1, 2))
    assert 0.42 < (slope < 0).float().mean() < 0.58


def test_same_seed_same_views_and_each_image_its_own() -> None:
    """Training repeats to the bit; and one draw shared by the batch would be no augmentation."""
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16), dtype=np.uint8))
    batch = image.expand(4, 3, 16, 16)
    a, b = augment(batch, 8, generator=generator(7)), augment(batch, 8, generator=generator(7))
    assert torch.equal(a, b)
    assert all(not torch.equal(a[0], a[i]) for i in range(1, 4))
    assert not torch.equal(a, augment(batch, 8, generator=generator(8)))


def test_extreme_pictures_stay_finite() -> None:
    """Black, white and constant pictures; and one pixel."""
    for value in (0, 255):
        views = augment(torch.full((8, 3, 1, 1), value, dtype=torch.uint8), 4, generator=generator())
        assert torch.isfinite(views).all()


def test_normalise_is_torchvisions() -> None:
    """The ImageNet constants."""
    images = torch.rand(2, 3, 4, 5, generator=generator())
    torch.testing.assert_close(normalise(images), tv.normalize(images, list(IMAGENET_MEAN), list(IMAGENET_STD)))


def test_resize_is_torchvisions() -> None:
    """Scores are taken on antialiased pictures; one without antialiasing would score texture."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 40, 30), dtype=np.uint8))
    expected = tv.resize(images.float() / 255, [32, 32], antialias=True)
    torch.testing.assert_close(resize(images, 32), expected, atol=1e-5, rtol=0)
    same = images[:, :, :32, :30].contiguous()[:, :, :30, :30]
    assert torch.equal(resize(same, 30), same.float() / 255)
