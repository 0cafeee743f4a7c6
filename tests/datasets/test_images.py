"""The one rule for the images of a folder: what is taken, and what is left out and why."""

import os
import socket
from pathlib import Path

import pytest

from gaussad_cli.datasets.images import MOST_BYTES, find_images, problem_with
from gaussad_cli.errors import UserError


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(found):
    return [path.relative_to(found.folder).as_posix() for path in found.paths]


@pytest.fixture
def good(tmp_path):
    write(tmp_path / "good/b.png", tmp_path / "good/a.JPG")
    return tmp_path / "good"


def test_flat_images_are_sorted_by_name_and_nothing_else_is_said(good):
    found = find_images(good)
    assert names(found) == ["a.JPG", "b.png"]
    assert str(found) == f"{good}: 2 images."


def test_images_in_folders_below_are_taken_and_counted(good):
    write(good / "lot2/deep/c.png", good / "lot2/a.tif")
    found = find_images(good)
    assert names(found) == ["a.JPG", "b.png", "lot2/a.tif", "lot2/deep/c.png"]
    assert str(found) == f"{good}: 4 images, 2 of them nested."


def test_links_to_folders_are_followed(good, tmp_path):
    write(tmp_path / "elsewhere/c.png", tmp_path / "elsewhere/deep/d.png")
    (good / "camera2").symlink_to(tmp_path / "elsewhere")
    found = find_images(good)
    assert names(found) == ["a.JPG", "b.png", "camera2/c.png", "camera2/deep/d.png"]
    assert found.places == (good.resolve(), (tmp_path / "elsewhere").resolve())


@pytest.mark.parametrize("target", [".", "..", "lot", "../good", "/"])
def test_links_that_lead_back_or_to_a_folder_taken_already_are_told_and_not_followed(good, target):
    write(good / "lot/c.png", good.parent / "bad/d.png")
    (good / "again").symlink_to(target)
    found = find_images(good)
    assert names(found) == ["a.JPG", "b.png", "lot/c.png"]
    assert f"Left out: links to folders that are taken already: 1 ({good / 'again'})." in str(found)


def test_a_link_in_a_linked_folder_never_leads_to_the_folder_above_the_first(good, tmp_path):
    write(tmp_path / "bad/d.png", tmp_path / "elsewhere/c.png")
    (good / "camera").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/all").symlink_to(tmp_path)
    assert names(find_images(good)) == ["a.JPG", "b.png", "camera/c.png"]


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir/b.png", "#recycle/x.png", "$RECYCLE.BIN/x.png", ".ipynb_checkpoints/x.png", "__MACOSX/x.png"),
        *("lost+found/x.png", "Thumbs.db", "._b.png", ".DS_Store", "deep/@EADIR/x.png", "System Volume Information/x"),
    ],
)
def test_hidden_and_system_files_and_folders_are_left_out_and_counted(good, name):
    write(good / name)
    found = find_images(good)
    assert names(found) == ["a.JPG", "b.png"]
    assert "Left out: hidden or system: 1 (" in str(found)


def test_a_hidden_folder_that_is_given_itself_is_searched(tmp_path):
    write(tmp_path / ".cache/a.png")
    assert names(find_images(tmp_path / ".cache")) == ["a.png"]


def test_other_suffixes_are_counted_by_suffix(good):
    write(good / "a.heic", good / "B.HEIC", good / "c.heic", good / "notes.txt", good / "README")
    assert str(find_images(good)) == (
        f"{good}: 2 images. Left out: .heic: 3 ({good / 'B.HEIC'}, {good / 'a.heic'}, ...); "
        f".txt: 1 ({good / 'notes.txt'}); no suffix: 1 ({good / 'README'})."
    )


def test_masks_are_no_images(good):
    write(good / "ground_truth/crack/a_mask.png")
    found = find_images(good)
    assert names(found) == ["a.JPG", "b.png"]
    assert list(found.masks) == [good / "ground_truth"]
    assert "ground_truth (masks): 1" in str(found)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_pipes_and_sockets_and_devices_are_never_opened(good, monkeypatch):
    os.mkfifo(good / "pipe.png")
    (good / "device.png").symlink_to("/dev/zero")
    monkeypatch.chdir(good)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
    found = find_images(good)
    assert names(found) == ["a.JPG", "b.png"]
    assert "pipes, sockets and devices: 3" in str(found)
    assert "not a file" in problem_with(good / "pipe.png")


def test_a_file_beyond_the_limit_is_a_problem_before_it_is_read(good):
    os.truncate(good / "b.png", MOST_BYTES)
    assert not problem_with(good / "b.png")
    os.truncate(good / "b.png", MOST_BYTES + 1)
    assert "more than the 537 MB that are allowed" in problem_with(good / "b.png")
    assert "folder" in problem_with(good)


def test_a_broken_link_with_an_images_name_is_taken_and_others_are_told(good):
    (good / "c.png").symlink_to("nowhere")
    (good / "camera").symlink_to("/mnt/not/mounted")
    (good / "loop").symlink_to("loop")
    found = find_images(good)
    assert names(found) == ["a.JPG", "b.png", "c.png"]
    assert "broken links: 2" in str(found)


def test_a_folder_that_cannot_be_read_is_an_error_or_left_out(good, monkeypatch):
    write(good / "locked/c.png")
    really = os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may read everything
    with pytest.raises(UserError, match=r"cannot read the folder .*locked"):
        find_images(good)
    found = find_images(good, strict=False)
    assert names(found) == ["a.JPG", "b.png"]
    assert "folders that cannot be read: 1" in str(found)


@pytest.mark.parametrize("folder", ["nowhere", "good/b.png"])
def test_what_is_no_folder_is_an_error(good, folder):
    with pytest.raises(UserError, match="no such folder"):
        find_images(good.parent / folder)


def test_a_name_that_a_terminal_would_obey_is_escaped(good):
    write(good / "\x1b[2Ja.heic")
    assert "\\x1b[2Ja.heic" in str(find_images(good))
