"""What every step of the augmentation does to pixels, against PROTOCOL.md and plain references.

`test_augment.py` reads the values that albumentations reports; here only pixels are read, so that another release of
OpenCV, NumPy or albumentations which does something else with the same values fails as well. Every step is applied
alone, with a fixed seed, to pictures from which its strength can be read.
"""

import colorsys
import random

import numpy as np
import pytest
from scipy import ndimage, stats

from gaussad_cli.extraction.augment import DEFAULT, build_chain, read_rules

DRAWS = 500
# A right law exceeds a bound below in about one seed of 100,000; seeds are fixed, so that it passes always or never.
# With this many draws, a range that is a seventh shorter at either end is caught, and a share that is off by 0.09.
RISK = 1e-5
SIGMAS = 4.5
RULES = read_rules(None)
RANDOM = np.random.default_rng(0).integers(60, 190, (32, 32, 3), dtype=np.uint8)


def outcomes(step, image, n=DRAWS, category=DEFAULT, which=0):
    """Apply one step of a category's chain alone, n times: pictures (n, height, width, 3) uint8."""
    import albumentations as a

    found = [one for one in _leaves(build_chain(RULES[category]).transforms) if type(one).__name__ == step][which]
    found.p = 1
    chain = a.Compose([found])
    chain.set_random_state(np.random.default_rng(0), random.Random(0))
    return np.stack([chain(image=image)["image"] for _ in range(n)])


def _leaves(steps):
    for one in steps:
        yield from _leaves(one.transforms) if hasattr(one, "transforms") else [one]


def flat(*colour, size=24):
    return np.full((size, size, 3), colour, dtype=np.uint8)


def assert_share(count, n, p):
    assert abs(count - n * p) <= SIGMAS * np.sqrt(n * p * (1 - p)), f"{count} of {n}, expected {p}"


def assert_uniform(values, low, high, resolution):
    """Values read from pixels to within `resolution` are even over [low, high], and reach both ends.

    The distance of the distributions is bounded by Dvoretzky, Kiefer, Wolfowitz and Massart: more than e in
    2 exp(-2 n e^2) of the cases. That no value is in the outermost d has the probability (1 - d / (high - low))^n.
    """
    values, width, n = np.sort(values), high - low, len(values)
    gap = resolution + width * -np.log(RISK) / n
    assert low - resolution <= values[0] <= low + gap
    assert high - gap <= values[-1] <= high + resolution
    expected = np.clip((values - low) / width, 0, 1)
    ranks = np.arange(n + 1) / n
    distance = max((ranks[1:] - expected).max(), (expected - ranks[:-1]).max())
    assert distance <= np.sqrt(np.log(2 / RISK) / (2 * n)) + resolution / width


def assert_unrelated(x, y):
    assert abs(np.corrcoef(x, y)[0, 1]) <= SIGMAS / np.sqrt(len(x))


def inside(picture):
    """Without its border, where references differ in what they take to be beyond it."""
    return picture[..., 1:-1, 1:-1, :].astype(float)


def test_median_blur_takes_the_median_of_3_by_3():
    expected = inside(ndimage.median_filter(RANDOM, size=(3, 3, 1)))
    assert all((inside(one) == expected).all() for one in outcomes("MedianBlur", RANDOM, 20))


def test_box_blur_takes_the_mean_of_3_by_3():
    expected = inside(ndimage.uniform_filter(RANDOM.astype(float), size=(3, 3, 1)))
    assert np.abs(inside(outcomes("Blur", RANDOM, 20)) - expected).max() <= 0.51


def test_motion_blur_spreads_a_dot_over_up_to_7_pixels_in_every_direction_and_keeps_its_light():
    dot = flat(0, 0, 0)
    dot[12, 12] = 240
    blurred = outcomes("MotionBlur", dot)
    assert (blurred == blurred[..., :1]).all()  # gray stays gray
    spread = blurred[..., 0].astype(float)
    lit = (spread > 0).sum(axis=(1, 2))
    assert (np.abs(spread.sum(axis=(1, 2)) - 240) <= lit / 2 + 1e-9).all()  # each pixel is rounded
    rows, columns = (spread.max(axis=axis) > 0 for axis in (2, 1))
    height, width = (np.ptp([np.flatnonzero(one)[[0, -1]] for one in lines], axis=1) + 1 for lines in (rows, columns))
    longest = np.maximum(height, width)
    assert longest.max() == 7
    assert (longest > 1).mean() > 0.9
    for one in (height, width):  # some lie, some stand
        assert 0.2 < (one > longest / 2).mean() < 0.9
    assert_share((height > width).sum(), (height != width).sum(), 0.5)


def test_clahe_equalises_with_a_clip_limit_of_1_to_2():
    """64 equal tiles of 1024 pixels: one map of lightness serves all, and its bins hold at most 4 to 7 pixels."""
    tile = np.random.default_rng(1).integers(100, 157, (32, 32, 1), dtype=np.uint8)
    pictures = outcomes("CLAHE", np.tile(tile, (8, 8, 3)), 40)[:, :32, :32].astype(float)
    before = np.rint(lightness(tile[..., 0])).astype(int)
    maps = np.stack([equalise(before, limit)[before] for limit in range(1, 12)])
    errors = np.abs(lightness(pictures.mean(axis=3))[:, None] - maps).max(axis=(2, 3))
    assert errors.min(axis=1).max() <= 3  # of 255, by rounding to Lab and back; other limits are off by 7 and more
    found = errors.argmin(axis=1) + 1
    assert set(found) == {4, 5, 6, 7}
    for limit in range(4, 8):
        assert_share((found == limit).sum(), len(found), 0.25)


def lightness(gray):
    """CIE L* of sRGB gray, from 0 to 255."""
    share = np.asarray(gray) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return 255 * (1.16 * np.where(linear > 216 / 24389, np.cbrt(linear), (24389 / 27 * linear + 16) / 116) - 0.16)


def equalise(tile, limit):
    """The map of a tile: what exceeds the limit is spread over all bins, the rest of it at even distances."""
    counts = np.bincount(tile.ravel(), minlength=256)
    share, rest = divmod(np.maximum(counts - limit, 0).sum(), 256)
    counts = np.minimum(counts, limit) + share
    counts[:: max(256 // max(rest, 1), 1)][:rest] += 1
    return counts.cumsum() * 255 / tile.size


def kernels(step):
    """The 3 x 3 kernels (n, 3, 3) of a filter, from its response to a dot, and their sums from flat parts."""
    dot = flat(100, 100, 100, size=9)
    dot[4, 4] = 200
    pictures = outcomes(step, dot)
    assert (pictures == pictures[..., :1]).all()
    gray = pictures[..., 0].astype(float)
    around = (gray - gray[:, :1, :1])[:, 5:2:-1, 5:2:-1] / 100  # a correlation: the neighbour below sees the dot above
    return around, gray[:, 0, 0] / 100


def test_sharpening_subtracts_its_neighbours_by_the_librarys_default_ranges():
    kernel, total = kernels("Sharpen")
    around = np.delete(kernel.reshape(DRAWS, 9), 4, axis=1)  # the middle is clipped to 255
    strength = -around.mean(axis=1)
    assert (np.abs(around + strength[:, None]) <= 0.0101).all()
    assert_uniform(strength, 0.2, 0.5, 0.01)
    assert_uniform(1 - (1 - total) / strength, 0.5, 1.0, 0.05)  # lightness, to within 0.01 of `total` / 0.2


def test_embossing_lights_from_one_corner_by_the_librarys_default_ranges():
    kernel, total = kernels("Emboss")
    strength, side = kernel[:, 2, 2] - kernel[:, 1, 2], kernel[:, 1, 2]
    zero = np.zeros(DRAWS)
    lit, middle = side + strength, zero + 1
    expected = np.array([[-lit, -side, zero], [-side, middle, side], [zero, side, lit]]).transpose(2, 0, 1)
    assert (np.abs(kernel - expected) <= 0.0101).all()
    assert (total == 1).all()
    assert_uniform(strength, 0.2, 0.5, 0.01)
    assert_uniform(side / strength, 0.2, 0.7, 0.05)


def test_brightness_and_contrast_are_of_the_right_strength():
    levels = flat(60, 60, 60)
    levels[:, 12:] = 160
    pictures = outcomes("RandomBrightnessContrast", levels).astype(float)
    assert (pictures[:, :, :12] == pictures[:, :1, :1]).all()
    assert (pictures[:, :, 12:] == pictures[:, -1:, -1:]).all()
    dark, bright = pictures[:, 0, 0, 0], pictures[:, -1, -1, 0]
    contrast = (bright - dark) / 100
    brightness = (dark - 60 * contrast) / 255
    assert_uniform(brightness, -0.1, 0.2, 0.005)
    assert_uniform(contrast, 0.8, 1.2, 0.01)
    assert_unrelated(brightness, contrast)


def test_hue_saturation_and_value_shift_as_far_as_they_should():
    """OpenCV counts hue in steps of 2 degrees, the others to 255; Python's colorsys reads the result."""
    colour = np.array([40, 180, 110])
    pictures = outcomes("HueSaturationValue", flat(*colour, size=4))
    assert (pictures == pictures[:, :1, :1]).all()
    was = np.array(colorsys.rgb_to_hsv(*colour / 255))
    shifts = [np.array(colorsys.rgb_to_hsv(*one[0, 0] / 255)) - was for one in pictures]
    hue, saturation, value = (np.array(shifts) * (180, 255, 255)).T
    assert_uniform(hue, -10, 10, 1)
    assert_uniform(saturation, -30, 30, 2)
    assert_uniform(value, -10, 20, 1)
    for x, y in [(hue, saturation), (hue, value), (saturation, value)]:
        assert_unrelated(x, y)


@pytest.mark.parametrize(("which", "per_channel"), [(0, False), (1, True)])
def test_noise_is_gaussian_and_of_the_right_strength(which, per_channel):
    """albumentations cuts noise to whole numbers, towards zero. Its variance becomes s^2 - s sqrt(2 / pi) + 1 / 3."""
    size = 80  # pixels enough to know a picture's noise to within 4 %
    noise = outcomes("GaussNoise", flat(128, 128, 128, size=size), which=which).astype(float) - 128
    one = noise[..., 0]
    half = 1 / np.sqrt(2 * np.pi)
    strength = half + np.sqrt(half**2 - 1 / 3 + one.var(axis=(1, 2)))
    error = 0.03 * 255 / np.sqrt(2 * size**2)
    assert_uniform(strength, 0.01 * 255, 0.03 * 255, SIGMAS * error)
    assert abs(one.mean()) <= SIGMAS * 0.03 * 255 / np.sqrt(one.size)
    for bound in (0, 1, 2):  # a pixel is above a whole number by as much as its noise is
        limits = (np.floor(bound * strength) + 1)[:, None, None]
        expected = stats.norm.sf(limits[:, 0, 0] / strength).mean()
        for side in (one >= limits, one <= -limits):
            assert_share(side.sum(), one.size, expected)
    if per_channel:
        assert_unrelated(one.ravel(), noise[..., 1].ravel())
        assert_unrelated(one.ravel(), noise[..., 2].ravel())
        assert noise.std(axis=(1, 2)) / one.std(axis=(1, 2))[:, None] == pytest.approx(1, abs=10 * error / 7.65)
    else:
        assert (noise == noise[..., :1]).all()


def test_flips_are_left_to_right():
    assert all((one == RANDOM[:, ::-1]).all() for one in outcomes("HorizontalFlip", RANDOM, 20))


def test_quarter_turns_are_equally_frequent():
    pictures = outcomes("RandomRotate90", RANDOM)
    turns = [np.rot90(RANDOM, k) for k in range(4)]
    counts = np.array([[(one == turned).all() for turned in turns] for one in pictures]).sum(axis=0)
    assert counts.sum() == DRAWS
    for count in counts:
        assert_share(count, DRAWS, 0.25)


def placed(category, size=101, window=20):
    """Read from pixels where a category's images are moved to: scale, angle in degrees, shift (2, n) as a share.

    Red grows with x, green with y: a moved picture's colours say where each pixel came from.
    """
    middle = size // 2
    grid = np.arange(size)
    slopes = np.zeros((size, size, 3), np.uint8)
    slopes[..., 0], slopes[..., 1] = 20 + 2 * grid, 20 + 2 * grid[:, None]
    pictures = outcomes("Affine", slopes, category=category)
    assert pictures[..., :2].min() >= 20  # the border is reflected: nothing is filled in
    part = slice(middle - window, middle + window + 1)
    origins = (pictures[:, part, part, :2].astype(float) - 20) / 2 - middle
    y, x = np.mgrid[-window : window + 1, -window : window + 1].reshape(2, -1)
    design = np.stack([x, y, np.ones(x.size)], axis=1)
    fits = np.linalg.pinv(design) @ origins.reshape(len(origins), -1, 2)  # least squares
    back = fits.transpose(0, 2, 1)  # (n, 2, 3): origin = back @ (x, y, 1)
    there = np.linalg.inv(back[:, :, :2])
    np.testing.assert_allclose(there[:, 0, 0], there[:, 1, 1], atol=0.01)  # turned and scaled, not bent
    np.testing.assert_allclose(there[:, 0, 1], -there[:, 1, 0], atol=0.01)
    angle = np.degrees(np.arctan2(there[:, 1, 0], there[:, 0, 0]))
    shift = -(there @ back[:, :, 2:])[:, :, 0].T / size
    return np.sqrt(np.linalg.det(there)), angle, shift


@pytest.mark.parametrize(("category", "rotation"), [(DEFAULT, 45), ("screw", 15)])
def test_images_are_moved_as_far_as_they_should_be(category, rotation):
    scale, angle, shift = placed(category)
    assert_uniform(scale, 0.95, 1.10, 0.005)
    assert_uniform(angle, -rotation, rotation, 0.5)
    for along in shift:
        assert_uniform(along, -0.05, 0.05, 0.51 / 101)  # albumentations shifts by whole pixels
    for x, y in [(scale, angle), (scale, shift[0]), (angle, shift[1]), (shift[0], shift[1])]:
        assert_unrelated(x, y)


def test_a_grid_only_shrinks():
    scale, angle, shift = placed("grid", window=44)
    assert_uniform(scale, 0.95, 1.0, 0.006)
    assert np.abs(angle).max() < 0.5
    assert np.abs(shift).max() < 0.1 / 101
