"""Augmentation does what PROTOCOL.md says: every probability, every range, per category, independently."""

import itertools
import random
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import stats

from gaussad_cli.errors import UserError
from gaussad_cli.extraction.augment import DEFAULT, Augmentation, Augmenter, _seed, build_chain, read_rules
from tests.conftest import assert_user_error, write_image

DRAWS = 4000
SIGMAS = 4.5  # a false alarm in 150,000 per check; the draws are seeded, so it passes always or never
STEPS = {
    "blur": ["MotionBlur", "MedianBlur", "Blur"],
    "tone": ["CLAHE", "Sharpen", "Emboss", "RandomBrightnessContrast"],
    "colour": ["HueSaturationValue"],
    "noise": ["GaussNoise"],
    "flip": ["HorizontalFlip"],
    "rotate90": ["RandomRotate90"],
    "move": ["Affine"],
}
PAPER = read_rules(None)
IMAGE = np.random.default_rng(0).integers(60, 200, (24, 24, 3), dtype=np.uint8)


def draw(category, n=DRAWS):
    """Return, per draw in which the chain fires, the applied steps with their parameters."""
    import albumentations as a

    chain = build_chain(PAPER.get(category, PAPER[DEFAULT]))
    recording = a.Compose(chain.transforms, p=chain.p, save_applied_params=True)
    applied = []
    for i in range(n):
        seed = _seed(0, category, "train/good/000.png", i)
        recording.set_random_state(np.random.default_rng(seed), random.Random(seed))
        applied.append(dict(recording(image=IMAGE)["applied_transforms"]))
    return applied


@pytest.fixture(scope="module")
def carpet():
    """A category with the default's rules."""
    return draw("carpet")


def assert_share(count, n, p):
    assert abs(count - n * p) <= SIGMAS * np.sqrt(n * p * (1 - p)), f"{count} of {n}, expected {p}"


def assert_uniform(values, low, high):
    assert min(values) >= low - 1e-9
    assert max(values) <= high + 1e-9
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-5


def fired(applied, step):
    return sum(any(name in one for name in STEPS[step]) for one in applied)


@pytest.mark.parametrize(
    ("step", "p"),
    [("blur", 0.2), ("tone", 0.3), ("colour", 0.3), ("noise", 0.2), ("flip", 0.5), ("rotate90", 0.5), ("move", 0.2)],
)
def test_every_step_fires_as_often_as_it_should(carpet, step, p):
    assert_share(fired(carpet, step), DRAWS, 0.5 * p)


@pytest.mark.parametrize(
    ("step", "weights"), [("blur", [0.5, 0.25, 0.25]), ("tone", [0.25, 0.25, 0.25, 0.25])], ids=["blur", "tone"]
)
def test_one_of_several_is_chosen_by_its_weight(carpet, step, weights):
    counts = [sum(name in one for one in carpet) for name in STEPS[step]]
    assert sum(counts) == fired(carpet, step)  # never two of them
    for count, weight in zip(counts, weights, strict=True):
        assert_share(count, sum(counts), weight)


def test_an_image_stays_as_it_is_in_half_the_epochs_and_when_no_step_fires(carpet):
    augment = Augmenter(PAPER[DEFAULT], 0, "carpet")
    none_fires = 0.8 * 0.7 * 0.7 * 0.8 * 0.5 * (0.5 + 0.5 / 4) * 0.8  # a quarter turn may be none
    unchanged = sum(np.array_equal(augment(IMAGE, "x.png", epoch), IMAGE) for epoch in range(2000))
    assert_share(unchanged, 2000, 0.5 + 0.5 * none_fires)
    assert_share(sum(not one for one in carpet), DRAWS, 0.5 + 0.5 * 0.8 * 0.7 * 0.7 * 0.8 * 0.5 * 0.5 * 0.8)


def test_steps_are_independent_of_each_other(carpet):
    firing = [one for one in carpet if one]
    n = DRAWS / 2  # the chain fires; draws in which then no step did count as well
    for (a, in_a), (b, in_b) in itertools.combinations(STEPS.items(), 2):
        both = sum(any(x in one for x in in_a) and any(y in one for y in in_b) for one in firing)
        p = {"blur": 0.2, "tone": 0.3, "colour": 0.3, "noise": 0.2, "flip": 0.5, "rotate90": 0.5, "move": 0.2}
        assert_share(both, n, p[a] * p[b])


def test_every_range_is_drawn_from_evenly_and_kept(carpet):
    values = defaultdict(list)
    for one in carpet:
        for step, given in one.items():
            for name, value in given.items():
                values[step, name].append(value)
    assert_uniform(values["HueSaturationValue", "hue_shift"], -10, 10)
    assert_uniform(values["HueSaturationValue", "sat_shift"], -30, 30)
    assert_uniform(values["HueSaturationValue", "val_shift"], -10, 20)
    assert_uniform(np.array(values["RandomBrightnessContrast", "beta"]) / 255, -0.1, 0.2)
    assert_uniform(np.array(values["RandomBrightnessContrast", "alpha"]) - 1, -0.2, 0.2)
    assert_uniform(values["CLAHE", "clip_limit"], 1, 2)
    assert set(values["MedianBlur", "kernel"]) == set(values["Blur", "kernel"]) == {3}
    assert set(values["RandomRotate90", "factor"]) == {0, 1, 2, 3}
    for factor in range(4):
        assert_share(values["RandomRotate90", "factor"].count(factor), len(values["RandomRotate90", "factor"]), 0.25)
    assert_uniform(values["Affine", "rotate"], -45, 45)
    assert all(scale["x"] == scale["y"] for scale in values["Affine", "scale"])
    assert_uniform([scale["x"] for scale in values["Affine", "scale"]], 0.95, 1.10)
    shifts = np.array([shift_of(matrix) for matrix in values["Affine", "matrix"]])
    assert np.abs(shifts).max() <= 0.05 + 0.5 / 24 + 1e-6  # albumentations shifts by whole pixels
    assert np.abs(shifts.mean(axis=0)).max() < 0.01
    assert abs(np.corrcoef(shifts.T)[0, 1]) < SIGMAS / np.sqrt(len(shifts))


def shift_of(matrix):
    """How far the centre moves, as a share of the image."""
    centre = np.array([(24 - 1) / 2, (24 - 1) / 2, 1.0])
    return ((np.asarray(matrix) @ centre)[:2] - centre[:2]) / 24


def test_noise_is_of_the_right_strength_and_shared_by_the_channels_half_the_time(carpet):
    maps = [one["GaussNoise"]["noise_map"] for one in carpet if "GaussNoise" in one]
    strengths = np.array([np.std(noise) for noise in maps])
    assert (strengths > 0.01 * 255 * 0.9).all()
    assert (strengths < 0.03 * 255 * 1.1).all()
    assert strengths.mean() == pytest.approx(0.02 * 255, rel=0.05)
    channels = [np.ptp(np.broadcast_to(noise.reshape(24, 24, -1), (24, 24, 3)), axis=2).max() == 0 for noise in maps]
    assert_share(sum(channels), len(maps), 0.5)


NO_FLIP = {"metal_nut", "pill", "capsule", "screw"}
SMALL_ROTATION = {
    "bottle", "cable", "capsule", "metal_nut", "pill", "screw", "toothbrush", "transistor", "wood", "zipper"
}  # fmt: skip
MVTEC = SMALL_ROTATION | {"carpet", "grid", "hazelnut", "leather", "tile"}


def test_rules_per_category_are_the_papers():
    rules = {name: PAPER.get(name, PAPER[DEFAULT]) for name in MVTEC}
    assert set(PAPER) - {DEFAULT} <= MVTEC
    assert {name for name, one in rules.items() if one.flip == 0} == NO_FLIP
    assert {name for name, one in rules.items() if one.rotate90 == 0} == {"transistor"}
    assert {name for name, one in rules.items() if one.rotation == 15} == SMALL_ROTATION
    assert (rules["grid"].rotation, rules["grid"].shift, rules["grid"].scale) == (0, 0, (-0.05, 0))
    for name, one in rules.items():
        assert (one.any, one.blur, one.tone, one.colour, one.noise, one.move) == (0.5, 0.2, 0.3, 0.3, 0.2, 0.2)
        assert one.flip in (0, 0.5)
        assert one.rotate90 in (0, 0.5)
        if name != "grid":
            assert (one.shift, one.scale) == (0.05, (-0.05, 0.1))


@pytest.mark.parametrize(("category", "rotation"), [("screw", 15), ("transistor", 15), ("grid", 0)])
def test_a_categorys_rules_reach_the_images(category, rotation):
    applied = draw(category, 3000)
    rotations = [one["Affine"]["rotate"] for one in applied if "Affine" in one]
    if rotation:
        assert_uniform(rotations, -rotation, rotation)
    else:
        assert not any(rotations)
        assert_uniform([one["Affine"]["scale"]["x"] for one in applied if "Affine" in one], 0.95, 1.0)
    assert_share(fired(applied, "flip"), 3000, 0 if category == "screw" else 0.25)
    assert_share(fired(applied, "rotate90"), 3000, 0 if category == "transistor" else 0.25)


def test_a_view_depends_on_seed_category_name_and_epoch_and_on_nothing_else():
    def views(seed=0, category="a", name="x.png"):
        augment = Augmenter(PAPER[DEFAULT], seed, category)
        return np.stack([augment(IMAGE, name, epoch) for epoch in range(40)])

    base = views()
    np.testing.assert_array_equal(views(), base)
    assert len(np.unique(base, axis=0)) > 10
    for other in (views(seed=1), views(category="b"), views(name="y.png")):
        assert (other != base).any(axis=(1, 2, 3)).mean() > 0.5
    augment = Augmenter(PAPER[DEFAULT], 0, "a")
    order = random.Random(0).sample(range(40), 40)
    with ThreadPoolExecutor(4) as pool:
        shuffled = list(pool.map(lambda epoch: augment(IMAGE, "x.png", epoch), order))
    np.testing.assert_array_equal(np.stack(shuffled)[np.argsort(order)], base)


def test_albumentations_is_imported_with_the_first_augmented_image():
    code = (
        "import sys, numpy as np\n"
        "import gaussad_cli.extraction.pipeline, gaussad_cli.cli.extract, gaussad_cli.training.batches\n"
        "from gaussad_cli.extraction.augment import Augmentation, read_rules\n"
        "augment = Augmentation(read_rules(None)).augmenter('bottle')\n"
        "assert 'albumentations' not in sys.modules\n"
        "augment(np.zeros((8, 8, 3), np.uint8), 'a.png', 0)\n"
        "assert 'albumentations' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_users_rules_go_on_top_of_the_papers(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("default: {rotate90: 0}\nscrew: {rotation: 5}\nmine: {noise: 0, scale: [0, 0]}\n")
    rules = read_rules(path)
    assert (rules["screw"].rotation, rules["screw"].flip, rules["screw"].rotate90) == (5, 0, 0)
    assert (rules["mine"].noise, rules["mine"].scale, rules["mine"].rotation) == (0, (0, 0), 45)
    assert rules["bottle"].rotate90 == rules[DEFAULT].rotate90 == 0
    assert Augmentation(PAPER).name == "paper/1"
    assert Augmentation(rules).name not in ("paper/1", Augmentation(read_rules(None) | {"mine": rules["mine"]}).name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default: {flipp: 0}", "unknown key 'flipp'. Did you mean flip?"),
        ("default: {flip: 2}", "'flip: 2' should be less than or equal to 1"),
        ("mine: {flip: yes}", "'flip: True' should be a valid number"),
        ("mine: {flip: .nan}", "'flip: nan' should be a finite number"),
        ("mine: {scale: [0.2, 0.1]}", "should be [a, b] with -1 < a <= b < 10"),
        ("mine: {scale: 0.1}", "should be [a, b] with"),
        ("mine: {rotation: 200}", "'rotation: 200' should be less than or equal to 180"),
        ("[1, 2]", "the file should have lines"),
        ("a: 1", "'a: 1' should have lines"),
        ("a: {b: ]", "not valid YAML"),
    ],
)
def test_rules_that_make_no_sense_are_named(tmp_path, text, message):
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(UserError, match=r"rules\.yaml") as error:
        read_rules(tmp_path / "rules.yaml")
    assert message in str(error.value)


def test_preview_shows_what_an_extraction_would_see(gaussad, tiny, tmp_path):
    from PIL import Image

    from gaussad_cli.extraction.decode import read_squares

    write_image(tiny / "knob/train/good/000.png", 7)
    result = gaussad("augment-preview", "--data", tiny, "--size", 40, "--images", 2, "--epochs", 3)
    assert (result.code, result.out.split()) == (0, ["preview/knob.png", "preview/lid.png"])
    sheet = np.asarray(Image.open(tmp_path / "preview/knob.png"))
    assert sheet.shape == (2 * 44 - 4, 4 * 44 - 4, 3)
    square = read_squares(tiny / "knob/train/good/000.png", [40]).by_size[40]
    np.testing.assert_array_equal(sheet[:40, :40], square)
    expected = Augmentation(PAPER).augmenter("knob")(square, "train/good/000.png", 2)
    np.testing.assert_array_equal(sheet[:40, 3 * 44 : 3 * 44 + 40], expected)


def test_preview_of_nothing_is_a_clear_error(gaussad, tmp_path):
    assert_user_error(gaussad("augment-preview", "--data", tmp_path / "gone"), "no such folder")
    missing = gaussad("augment-preview", "--data", tmp_path, "--augmentation", "gone.yaml")
    assert_user_error(missing, "cannot read gone.yaml")
