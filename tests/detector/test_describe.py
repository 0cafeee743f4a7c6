"""`gaussad info MODEL`."""

from pathlib import Path

from gaussad_cli.detector.container import write_model
from gaussad_cli.detector.describe import describe_model
from gaussad_cli.gaussian.compression import Compression
from tests.conftest import assert_user_error
from tests.detector.tiny_network import tiny_model


def test_a_model_is_described_by_network_levels_images_mode_threshold_and_calibration(tmp_path):
    model = tiny_model(n=40, compression=Compression("npca", 0.1), threshold=1.25)
    text = describe_model(tmp_path / "m.gaussad", model)
    level = model.levels[1]
    for part in (
        "m.gaussad",
        "40 normal ones",
        "tiny, 32 x 32, padding native",
        "tiny@0, SHA-256 0000",
        "torch in fp32, from pil-rgb8/cv2-linear/1",
        f"level 2        mode npca 0.1: 10 features, {level.shrinkage.dim} kept",
        "1.25, for a false-positive rate of 0.5",
        "19 distances",
        "19 images allow false-positive rates down to 5 %",
    ):
        assert part in text


def test_info_on_a_model_file_describes_it_whatever_its_name(gaussad):
    for name in ("m.gaussad", "another"):
        write_model(Path(name), tiny_model())
        done = gaussad("info", name)
        assert done.code == 0, done.err
        assert done.out.startswith(f"{name}\nmade by")


def test_info_on_a_model_that_is_missing_or_damaged_is_one_line(gaussad):
    assert_user_error(gaussad("info", "gone.gaussad"), "cannot read the model gone.gaussad")
    Path("m.gaussad").write_bytes(b"no model")
    assert_user_error(gaussad("info", "m.gaussad"), "m.gaussad is not a gaussad model")


def test_info_on_a_model_takes_no_weights(gaussad):
    write_model(Path("m.gaussad"), tiny_model())
    assert_user_error(gaussad("info", "m.gaussad", "--weights", "w.pth"), "m.gaussad is a model file")


def test_a_backbone_wins_over_a_file_of_its_name(gaussad):
    Path("resnet-18").touch()
    assert "multiply-adds" in gaussad("info", "resnet-18").out


def test_info_on_a_weight_file_says_which_option_takes_it(gaussad):
    Path("w.pth").touch()
    assert_user_error(gaussad("info", "w.pth"), "w.pth is a weight file", "gaussad info --weights w.pth")
