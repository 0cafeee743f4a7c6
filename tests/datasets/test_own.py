"""The user's own images: folders of one class, categories, and CSV lists."""

from pathlib import Path

import pytest

from gaussad_cli.datasets.own import find_class_images, of_category, of_csv, of_folders
from gaussad_cli.errors import UserError
from tests.conftest import write_image


def write(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        write_image(folder / name, seed=number, size=8)


def test_a_folder_without_images_is_an_error_that_says_what_it_has(tmp_path):
    (tmp_path / "a.heic").touch()
    with pytest.raises(UserError, match=r"no image below .*must end in .*\.png.*Left out: \.heic: 1"):
        find_class_images(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        find_class_images(tmp_path / "none")


def test_both_folders_are_summarised(tmp_path):
    write(tmp_path, "good/a.png", "good/lot/b.png", "bad/c.png")
    images = of_folders(tmp_path / "good", tmp_path / "bad")
    assert (len(images.normal), len(images.anomalous)) == (2, 1)
    assert images.summary == f"{tmp_path / 'good'}: 2 images, 1 of them nested. {tmp_path / 'bad'}: 1 image."


@pytest.mark.parametrize("folder", [".", "knob", "knob/train/..", "knob/test", "knob/test/scratch"])
def test_a_data_set_is_not_a_folder_of_normal_images(tiny, folder):
    with pytest.raises(UserError, match=r"not a folder of normal images alone.*<category>/train/good.*--category"):
        find_class_images(tiny / folder)


@pytest.mark.parametrize("folder", [".", "knob", "knob/test"])
def test_a_data_set_is_not_a_folder_of_anomalous_images(tiny, folder):
    with pytest.raises(UserError, match="not a folder of anomalous images alone"):
        find_class_images(tiny / folder, normal=False)


@pytest.mark.parametrize("folder", ["knob/train/good", "knob/train", "knob/test/good"])
def test_the_normal_class_of_a_data_set_is_a_folder_of_normal_images(tiny, folder):
    assert find_class_images(tiny / folder).paths


@pytest.mark.parametrize(
    "names", [("OK/a.png", "NG/b.png"), ("a.png", "defect/b.png"), ("good/a.png", "scratch/b.png"), ("a/Test/b.png",)]
)
def test_defects_never_become_normal_images(tmp_path, names):
    write(tmp_path, *names)
    with pytest.raises(UserError, match="because of the folder"):
        find_class_images(tmp_path)


def test_defects_never_become_normal_images_by_a_link(tiny):
    (tiny / "knob/train/good/more").symlink_to(tiny / "knob/test/scratch")
    with pytest.raises(UserError, match="holds test images"):
        find_class_images(tiny / "knob/train/good")


def test_masks_never_become_images_of_a_class(tmp_path):
    write(tmp_path, "good/a.png", "good/ground_truth/a.png", "ground_truth/crack/a.png")
    for folder, normal in (("good", True), ("ground_truth/crack", True), ("ground_truth", False)):
        with pytest.raises(UserError, match="ground_truth"):
            find_class_images(tmp_path / folder, normal)


def test_a_category_is_summarised(tiny):
    images = of_category(tiny, "lid")
    assert (len(images.normal), len(images.anomalous)) == (6, 3)
    assert images.summary == f"{tiny}: 1 category, 6 training and 6 test images."


# --- CSV lists ---


@pytest.fixture
def read(tmp_path):
    write(tmp_path, *(f"{i}.png" for i in range(4)))

    def of_text(text, category=None):
        (tmp_path / "list.csv").write_text(text)
        images = of_csv(tmp_path / "list.csv", category)
        return [path.name for path in images.normal], [path.name for path in images.anomalous], images.summary

    return of_text


@pytest.mark.parametrize("header", ["path,label", "path, label", "Path,LABEL", "\ufeffPATH , Label ", '"path","label"'])
def test_columns_are_matched_whatever_their_case_and_spaces(read, header):
    normal, anomalous, summary = read(f"{header}\n0.png, good\n1.png, anomalous\n")
    assert (normal, anomalous) == (["0.png"], ["1.png"])
    assert summary.endswith("list.csv: 1 normal and 1 anomalous images.")


@pytest.mark.parametrize("label", ["good", "Good", "OK", "normal", "0", "0.0", "0.00", "False", "FALSE", " ok ", ""])
def test_labels_of_normal_images(read, label):
    assert read(f"path,label\n0.png,{label}\n")[:2] == (["0.png"], [])


@pytest.mark.parametrize("label", ["bad", "NG", "Anomalous", "anomaly", "defect", "1", "1.0", "True", "NOK", "fail"])
def test_labels_of_anomalous_images(read, label):
    assert read(f"path,label\n0.png,ok\n1.png,{label}\n")[:2] == (["0.png"], ["1.png"])


@pytest.mark.parametrize("label", ["maybe", "2", "-1", "0.5", "nan", "gut", "scratch"])
def test_an_unknown_label_is_an_error(read, label):
    with pytest.raises(UserError, match=f"line 3: unknown label '{label}'. Write good or 0"):
        read(f"path,label\n0.png,good\n1.png,{label}\n")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,is_anomaly", "unknown column 'is_anomaly'"),
        ("path,lable", "unknown column 'lable'. Did you mean label?"),
        ("path;label", "unknown column 'path;label'"),
        (",path", "unknown column ''"),
        ("path,label, Label", "several columns 'label'"),
        ("label,split", "no column path"),
    ],
)
def test_a_column_that_is_unknown_or_missing_is_an_error_that_names_it(read, header, message):
    with pytest.raises(UserError) as error:
        read(f"{header}\n0.png,1,1\n")
    assert message in str(error.value)


@pytest.mark.parametrize("row", ["1.png", "1.png,good,x", ",good"])
def test_a_row_of_more_or_fewer_cells_is_an_error(read, row):
    with pytest.raises(UserError, match="line 3"):
        read(f"path,label\n0.png,good\n{row}\n")


def test_normal_images_of_other_splits_are_left_out_and_counted(read):
    rows = "0.png,good,Train\n1.png,good,test\n2.png,bad,test\n3.png,good,\n"
    normal, anomalous, summary = read(f"path,label,split\n{rows}")
    assert (normal, anomalous) == (["0.png", "3.png"], ["2.png"])
    assert "Left out: 1 normal images of other splits than train" in summary
    with pytest.raises(UserError, match="line 2: unknown split 'trane'"):
        read("path,label,split\n0.png,good,trane\n")


def test_only_the_rows_of_the_category_are_taken(read):
    text = "path,category\n0.png,a\n1.png,b\n2.png,a\n"
    assert read(text, "a")[0] == ["0.png", "2.png"]
    with pytest.raises(UserError, match="several categories"):
        read(text)


@pytest.mark.parametrize("path", ["nowhere.png", "a\0b.png", "x" * 5000, "."])
def test_a_file_that_is_not_there_is_named_by_its_line(read, path):
    with pytest.raises(UserError, match=r"line 3: there is no file|not a CSV file"):
        read(f"path\n0.png\n{path}\n")
