"""What is told of image files that can be read: once, and only where it is true."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaussad_cli import ImageDetector
from gaussad_cli.extraction import store
from gaussad_cli.extraction.decode import Squares
from gaussad_cli.extraction.remarks import Remarks
from tests.conftest import write_image

LITE0 = ("--backbone", "efficientnet-lite0", "--levels", "2")


def tell(remarks, *squares):
    remarks.tell([Path(f"{number}.png") for number in range(len(squares))], squares)


def test_16_bit_files_of_12_bits_are_told_once(capsys):
    remarks = Remarks()
    for _ in range(2):
        tell(remarks, Squares("", {}), Squares("", {}, peak=15))
    err = capsys.readouterr().err
    assert err.count("1.png is a 16-bit file without a value above 4095") == 1
    assert "--depth 12" in err


@pytest.mark.parametrize("others", [[Squares("", {}, peak=16)], [Squares("", {}, peak=255)]])
def test_a_dim_file_among_others_is_no_remark(capsys, others):
    tell(Remarks(), Squares("", {}, peak=3), *others)
    assert capsys.readouterr().err == ""


def test_files_of_8_bits_are_no_remark(capsys):
    tell(Remarks(), Squares("", {}))
    assert capsys.readouterr().err == ""


def test_files_of_several_pages_are_told_once(capsys):
    remarks = Remarks()
    for _ in range(2):
        tell(remarks, Squares("", {}), Squares("", {}, has_pages=True))
    assert capsys.readouterr().err.count("1.png has several pages: only the first page of such a file is used") == 1


# --- through the commands ---


@pytest.fixture
def deep(tmp_path):
    """A data set whose images have 12 bits in 16-bit files, and the same images of 8 bits as `shallow`."""
    for folder, n in (("train/good", 8), ("test/good", 2), ("test/bad", 2)):
        for i in range(n):
            path = write_image(tmp_path / "shallow/knob" / folder / f"{i}.png", seed=10 * len(folder) + i)
            gray = np.asarray(Image.open(path).convert("L"))
            Image.fromarray(gray).save(path)
            other = tmp_path / "deep/knob" / folder / f"{i}.png"
            other.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(gray.astype(np.uint16) << 4).save(other)
    return tmp_path / "deep"


def test_extract_and_run_take_the_depth_to_the_features_of_8_bits_under_a_key_of_its_own(gaussad, deep):
    bare = gaussad("extract", "--data", deep, *LITE0)
    assert bare.err.count("--depth 12") == 1
    done = gaussad("extract", "--data", deep, *LITE0, "--depth", 12)
    shallow = gaussad("extract", "--data", deep.parent / "shallow", *LITE0)
    assert "--depth" not in done.err + shallow.err
    features = [Path(each.out.strip(), "knob/train/level_2.npy").read_bytes() for each in (done, shallow)]
    assert features[0] == features[1]
    assert Path(bare.out).name != Path(done.out).name
    manifest = store.read_manifest(Path(done.out.strip(), "knob/train"))
    assert manifest.recipe.preprocessing == "pil-rgb8/cv2-linear/1/depth-12"
    again = gaussad("run", "--data", deep, *LITE0, "--depth", 12, "--table", 1)
    assert "0 images" in again.err
    assert f"key {Path(done.out.strip()).name}" in gaussad("evaluate", *LITE0[:2], "--dataset", "deep").err
    assert ", depth 12, key" in gaussad("evaluate", *LITE0[:2], "--dataset", "deep").err


def test_a_model_of_a_depth_reads_images_by_it_in_every_command(gaussad, deep):
    options = ("--fpr", "0.2", "--pooled", *LITE0)
    bare = gaussad("train", "--normal", deep / "knob/train/good", "--out", "bare.gaussad", *options)
    assert bare.err.count("--depth 12") == 1
    shallow = deep.parent / "shallow"
    for data, name, more in ((deep, "deep", ("--depth", 12)), (shallow, "shallow", ())):
        trained = gaussad("train", "--normal", data / "knob/train/good", "--out", f"{name}.gaussad", *options, *more)
        assert trained.code == 0, trained.err
    asked, expected = (
        gaussad("predict", f"{data.name}.gaussad", data / "knob/test", "--format", "json") for data in (deep, shallow)
    )
    assert asked.out.replace("/deep/", "/shallow/") == expected.out
    assert "--depth" not in asked.err
    assert "/depth-12" in gaussad("info", "deep.gaussad").out
    image = "knob/test/bad/0.png"
    scores = [ImageDetector.load(f"{data.name}.gaussad").score([data / image]) for data in (deep, shallow)]
    np.testing.assert_array_equal(*scores)
    explained = [gaussad("explain", f"{data.name}.gaussad", data / image).out for data in (deep, shallow)]
    assert explained[0].partition(": ")[2] == explained[1].partition(": ")[2] != ""
    exported = gaussad("export", "deep.gaussad", "--out", "m.onnx", "--image", deep / image)
    assert exported.code == 0, exported.err


def test_train_names_a_file_of_several_pages(gaussad, tmp_path):
    for i in range(6):
        write_image(tmp_path / f"good/{i}.tif", seed=i)
    Image.open(tmp_path / "good/3.tif").save(
        tmp_path / "good/9.tif", save_all=True, append_images=[Image.open(tmp_path / "good/4.tif")]
    )
    done = gaussad("train", "--normal", "good", "--out", "m.gaussad", "--fpr", "0.2", *LITE0)
    assert done.code == 0, done.err
    assert done.err.count("several pages") == 1
    assert "good/9.tif has several pages" in done.err
    for command in ("predict", "explain"):
        assert "good/9.tif has several pages" in gaussad(command, "m.gaussad", "good/9.tif").err
