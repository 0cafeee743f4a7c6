"""`gaussad download` where the archive is there already: the licence, which categories, three sets in one layout."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaussad_cli.datasets import download as downloads
from gaussad_cli.datasets.index import find_categories
from gaussad_cli.extraction.masks import read_mask
from tests.conftest import assert_user_error
from tests.datasets.packing import BTAD, MVTEC, PIXEL, VISA, png, tar, zipped

NAMES = {name: source.url.rsplit("/", 1)[-1] for name, source in downloads.SOURCES.items()}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(downloads, "fetch", refuse)


@pytest.fixture
def unpack(gaussad):
    """Run `gaussad download NAME` where the archive has been fetched before."""

    def run(name, content, *options):
        archive = Path("data", NAMES[name])
        archive.parent.mkdir(exist_ok=True)
        archive.write_bytes(content)
        pin = ("--sha256", hashlib.sha256(content).hexdigest())
        return gaussad("download", name, "--accept-licence", "--data", "data", *pin, *options)

    return run


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- the licence ---


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("mvtec", ["MVTec Software GmbH", "CC BY-NC-SA 4.0", "https://creativecommons.org", "no commercial use"]),
        ("visa", ["Amazon", "CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/", "Name the authors"]),
        ("btad", ["beanTech", "CC BY-NC-SA 4.0", "https://creativecommons.org", "no commercial use"]),
    ],
)
def test_the_licence_is_shown_and_nothing_is_done_before_it_is_accepted(gaussad, name, terms):
    done = gaussad("download", name)
    assert_user_error(done, "--accept-licence")
    for term in terms:
        assert term in done.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_at_a_terminal_it_is_asked_for_and_no_is_no(gaussad, monkeypatch, answer):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    done = gaussad("download", "mvtec")
    assert (done.code, done.out) == (2, "")
    assert "Do you accept this licence?" in done.err and "not accepted" in done.err
    assert list(Path().iterdir()) == []


def test_at_a_terminal_yes_is_yes(gaussad, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    monkeypatch.setattr(downloads, "fetch", lambda url, path, *_, **__: path.write_bytes(tar(MVTEC)))
    assert "not cf4313b13603" in gaussad("download", "mvtec").err  # it went on, to another hash than the published


# --- which ---


def test_an_unknown_data_set_and_an_unknown_category_are_said_before_gigabytes_are_fetched(gaussad):
    assert_user_error(gaussad("download", "mvtech", "--accept-licence"), "Did you mean mvtec?")
    wrong = gaussad("download", "mvtec", "--accept-licence", "--categories", "bottel")
    assert_user_error(wrong, "no category 'bottel'", "Did you mean bottle?", "zipper")
    assert_user_error(gaussad("download", "visa", "--accept-licence", "--categories", "../.."), "no category")


def test_only_the_wanted_categories_and_only_what_is_missing(unpack):
    content = tar(MVTEC)
    done = unpack("mvtec", content, "--categories", "screw")
    assert done.out.split() == ["data/screw"]
    assert not Path("data/bottle").exists()
    Path("data/screw/mine.txt").touch()
    assert unpack("mvtec", content, "--categories", "screw,bottle").out.split() == ["data/screw", "data/bottle"]
    assert Path("data/screw/mine.txt").exists()
    assert files_of(Path("data/bottle")) == {
        name.removeprefix("bottle/"): content for name, content in MVTEC.items() if name.startswith("bottle/")
    }


def test_what_is_there_needs_no_archive(unpack, gaussad):
    unpack("mvtec", tar(MVTEC), "--categories", "screw")
    Path("data", NAMES["mvtec"]).unlink()
    done = gaussad("download", "mvtec", "--accept-licence", "--data", "data", "--categories", "screw")
    assert (done.code, done.out.split()) == (0, ["data/screw"])


def test_the_folder_is_by_default_named_like_the_data_set(gaussad):
    Path("mvtec").mkdir()
    Path("mvtec", NAMES["mvtec"]).write_bytes(tar(MVTEC))
    pin = hashlib.sha256(tar(MVTEC)).hexdigest()
    done = gaussad("download", "MVTec", "--accept-licence", "--categories", "screw", "--sha256", pin)
    assert done.out.split() == ["mvtec/screw"]


def test_what_an_archive_lacks_is_said_and_what_it_has_is_there_whole(unpack):
    done = unpack("mvtec", tar(MVTEC))
    assert_user_error(done, "has no category cable, capsule", "--url")
    assert [category.name for category in find_categories(Path("data"))] == ["bottle", "screw"]


@pytest.mark.parametrize(("name", "content"), [("btad", zipped({"a/b.txt": b"x"})), ("visa", tar({"a/b": b"x"}))])
def test_another_data_sets_archive_is_no_success(unpack, name, content):
    assert_user_error(unpack(name, content), "as published")
    assert {path.name for path in Path("data").iterdir()} == {NAMES[name]}


def test_a_bad_archive_leaves_nothing_half_done(unpack):
    done = unpack("mvtec", tar({**MVTEC, "../evil": b"x"}), "--categories", "bottle")
    assert_user_error(done, "'../evil'", "nothing of it is used")
    assert {path.name for path in Path("data").iterdir()} == {NAMES["mvtec"]}


def test_a_file_where_a_category_should_be_is_said(unpack):
    Path("data").mkdir()
    Path("data/bottle").write_text("mine")
    assert_user_error(unpack("mvtec", tar(MVTEC), "--categories", "bottle"), "cannot write", "bottle")
    assert Path("data/bottle").read_text() == "mine"


# --- layouts ---


@pytest.mark.parametrize("root", ["", "mvtec_anomaly_detection/"])
def test_mvtec_stays_as_it_is(unpack, root):
    content = tar({root + name: content for name, content in MVTEC.items()})
    assert unpack("mvtec", content, "--categories", "bottle").code == 0
    (category,) = find_categories(Path("data"))
    assert [image.name for image in category.test] == [
        f"test/{kind}/{i}.png" for kind in ("dent", "good") for i in "01"
    ]
    assert Path("data/bottle/ground_truth/dent/1.png").read_bytes() == PIXEL + b"\1"


@pytest.mark.parametrize("root", ["", "VisA_20220922/"])
def test_visa_is_split_as_its_owners_split_it(unpack, root):
    content = tar({root + name: content for name, content in VISA.items()}, "w")
    assert unpack("visa", content, "--categories", "candle").code == 0
    (category,) = find_categories(Path("data"))
    assert [image.path.read_bytes() for image in category.train] == [PIXEL + bytes([i]) for i in range(6)]
    assert [image.name for image in category.test] == [f"test/{i}.JPG" for i in ("bad/0", "bad/1", "good/6", "good/7")]
    assert category.test[1].path.read_bytes() == PIXEL + b"\x09\1"


def test_visas_numbered_defects_become_masks_that_are_seen(unpack):
    unpack("visa", tar(VISA, "w"), "--categories", "candle")
    mask = read_mask(Path("data/candle/ground_truth/bad/1_mask.png"))
    np.testing.assert_array_equal(mask, np.asarray(Image.open(io.BytesIO(png(255)))) == 255)


@pytest.mark.parametrize("evil", ["../../escaped", "/tmp/escaped-gaussad", "candle/../../escaped", "C:\\escaped"])
def test_visas_list_cannot_lead_out(unpack, tmp_path, evil):
    files = {**VISA, "split_csv/1cls.csv": VISA["split_csv/1cls.csv"].replace(b"\ncandle,", f"\n{evil},".encode())}
    assert_user_error(unpack("visa", tar(files, "w"), "--categories", "candle"), "has no category candle")
    assert not list(tmp_path.parent.rglob("*escaped*")) and not Path("/tmp/escaped-gaussad").exists()


@pytest.mark.parametrize("text", [b"\xff\xfe\0", b"object\ncandle\n", b'object,"' + b"x" * 140_000])
def test_visas_list_that_is_damaged_is_said(unpack, text):
    assert_user_error(unpack("visa", tar({**VISA, "split_csv/1cls.csv": text}, "w"), "--categories", "candle"), "split")


def test_a_mask_that_is_no_image_is_said(unpack):
    files = {**VISA, "candle/Data/Masks/Anomaly/0.png": b"no image"}
    assert_user_error(unpack("visa", tar(files, "w"), "--categories", "candle"), "the mask 0_mask.png is not an image")
    assert not Path("data/candle").exists()


def test_btads_ok_and_ko_become_good_and_defect(unpack):
    assert unpack("btad", zipped(BTAD), "--categories", "01").code == 0
    (category,) = find_categories(Path("data"))
    assert len(category.train) == 5
    assert [image.name for image in category.test] == ["test/defect/7.bmp", "test/good/0.bmp", "test/good/1.bmp"]
    assert read_mask(Path("data/01/ground_truth/defect/7_mask.png")).sum() == 2
    assert [path.name for path in Path("data/01/ground_truth/defect").iterdir()] == ["7_mask.png"]
