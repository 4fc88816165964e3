"""Where a redrawn photo was changed: against the definitions, pixel by pixel in plain loops."""

from math import hypot

import numpy as np

from kka.imaging.changed import MARGIN, changed, cleaned, composite, feathered


def clamp(i: int, size: int) -> int:
    return min(max(i, 0), size - 1)


def mean_of_nine(values: list[list[float]], y: int, x: int) -> float:
    h, w = len(values), len(values[0])
    near = [values[clamp(y + dy, h)][clamp(x + dx, w)] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return sum(near) / 9


def differences(normal: np.ndarray, other: np.ndarray) -> list[list[float]]:
    """The channel that differs most, on the mean of 3 x 3 pixels."""
    h, w = normal.shape[:2]
    most = [[max(abs(float(a) - float(b)) for a, b in zip(*two, strict=True)) for two in zip(*rows, strict=True)]
            for rows in zip(normal, other, strict=True)]  # fmt: skip
    return [[mean_of_nine(most, y, x) for x in range(w)] for y in range(h)]


def test_what_changed_by_more_than_the_models_own_reconstruction() -> None:
    """The model's own blur of edges would be taken for defects, and a detector would learn it."""
    rng = np.random.default_rng(0)
    normal = rng.integers(40, 200, (9, 11, 3), np.uint8)
    own = (normal + rng.integers(0, 12, normal.shape)).astype(np.uint8)
    drawn = own.copy()
    drawn[2:6, 3:8] += 30
    drawn[7:, 9:] += 6  # below the margin
    for reach in (0, 1, 2):
        apart, usual = differences(normal, drawn), differences(normal, own)
        expected = np.zeros((9, 11), bool)
        for y in range(9):
            for x in range(11):
                near = range(-reach, reach + 1)
                limit = max(usual[clamp(y + dy, 9)][clamp(x + dx, 11)] for dy in near for dx in near)
                expected[y, x] = apart[y][x] > limit + MARGIN
        assert 4 < expected.sum() < 40
        np.testing.assert_array_equal(changed(normal, drawn, own, reach), expected)
    assert not changed(normal, own, own, 1).any()


def test_the_feather_falls_off_over_the_room() -> None:
    """A cut at the mask's edge is a defect that the caption does not name; a hairline that is faded out is none."""
    rng = np.random.default_rng(1)
    for room in (0, 1, 3):
        region = rng.random((14, 12)) < 0.02
        region[5, 3:8] = True
        mask = feathered(region, room)
        inside = [(y, x) for y in range(14) for x in range(12) if region[y, x]]
        wide = {
            (y, x) for y in range(14) for x in range(12) if min(hypot(y - v, x - u) for v, u in inside) <= room
        }
        outside = [(y, x) for y in range(14) for x in range(12) if (y, x) not in wide]
        for y in range(14):
            for x in range(12):
                far = min(hypot(y - v, x - u) for v, u in outside)
                expected = 255 * min(far / max(room, 1), 1) if (y, x) in wide else 0
                assert mask[y, x] == np.ceil(expected - 1e-9)
        assert (mask[region] == 255).all() and {(y, x) for y, x in np.argwhere(mask).tolist()} == wide


def test_nothing_and_everything() -> None:
    """A photo without a change, or one that is changed all over, has no edge of a mask."""
    assert not feathered(np.zeros((4, 5), bool), 2).any()
    assert (feathered(np.ones((4, 5), bool), 2) == 255).all()
    assert not cleaned(np.zeros((4, 5), bool), 3).any() and cleaned(np.ones((4, 5), bool), 3).all()


def test_specks_go_and_holes_are_filled() -> None:
    """A pixel at the limit is noise; a hole of a pixel in a stain is the stain."""
    region = np.zeros((12, 12), bool)
    region[2:7, 2:7] = True
    region[4, 4] = False
    region[9, 9] = region[10, 10] = True  # two pixels that touch at a corner: one spot
    region[0, 11] = True
    found = cleaned(region, 2)
    assert found[2:7, 2:7].all() and found[9, 9] and found[10, 10] and not found[0, 11]
    assert cleaned(region, 3).sum() == 25


def test_the_picture_is_the_normal_where_the_mask_is_nothing() -> None:
    """Rounded to the nearest, and exact at both ends."""
    rng = np.random.default_rng(2)
    normal, drawn = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
    mask = rng.choice(np.array([0, 1, 100, 254, 255], np.uint8), (8, 8))
    made = composite(normal, drawn, mask)
    for y in range(8):
        for x in range(8):
            for c in range(3):
                m = int(mask[y, x])
                exact = (m * int(drawn[y, x, c]) + (255 - m) * int(normal[y, x, c])) / 255
                assert abs(int(made[y, x, c]) - exact) <= 0.5
    np.testing.assert_array_equal(made[mask == 0], normal[mask == 0])
    np.testing.assert_array_equal(made[mask == 255], drawn[mask == 255])
