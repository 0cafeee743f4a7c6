"""Archives that want out, that are bombs, that are damaged: one clear line, and nothing outside is ever written."""

import io
import lzma
import random
import tarfile
import zipfile

import pytest

from gaussad_cli.datasets import archive as archives
from gaussad_cli.datasets.archive import extract
from gaussad_cli.errors import UserError
from tests.datasets.packing import MVTEC, tar, zipped


def everything(_):
    return True


@pytest.fixture
def unpack(tmp_path):
    """Extract an archive of some bytes; return what there is afterwards besides it."""
    path = tmp_path / "some.archive"

    def run(content, wanted=everything):
        path.write_bytes(content)
        names = extract(path, tmp_path / "out", wanted)
        assert names == [name for name in names if (tmp_path / "out" / name).is_file()]
        return names

    return run


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


PACKERS = {mode: lambda files, mode=mode: tar(files, mode) for mode in ("w", "w:xz", "w:gz", "w:bz2")}
PACKERS["zip"] = zipped


@pytest.mark.parametrize("how", PACKERS)
def test_what_is_wanted_is_written_as_it_was(unpack, tmp_path, how):
    wanted = [name for name in MVTEC if name.startswith("screw/")]
    assert unpack(PACKERS[how](MVTEC), lambda name: name.startswith("screw/")) == wanted
    assert files_of(tmp_path / "out") == {name: MVTEC[name] for name in wanted}


def test_names_from_here_and_folders_that_are_there_twice_are_no_harm(unpack):
    folder = tarfile.TarInfo("./bottle")
    folder.type = tarfile.DIRTYPE
    root = tarfile.TarInfo("./")
    root.type = tarfile.DIRTYPE
    assert unpack(tar({"./bottle/a.png": b"x"}, members=[root, folder, folder])) == ["bottle/a.png"]


# --- what is refused ---


def special(kind, name="bottle/train/good/9.png", target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


NAMES = {
    "parent": "../out.png",
    "absolute": "/abs.png",
    "parent inside": "bottle/../../out.png",
    "parent that stays inside": "bottle/../out.png",
    "share": "//host/x.png",
}
FEW = {name: MVTEC[name] for name in ("bottle/train/good/0.png", "screw/test/dent/1.png", "license.txt")}
EVIL = {f"tar, {what}": tar({**FEW, name: b"x"}, "w") for what, name in NAMES.items()}
EVIL |= {f"zip, {what}": zipped({**FEW, name: b"x"}) for what, name in NAMES.items()}
EVIL |= {
    "symbolic link": tar(FEW, "w", [special(tarfile.SYMTYPE)]),
    "hard link": tar(FEW, "w", [special(tarfile.LNKTYPE)]),
    "hard link to a file of its own": tar(FEW, "w", [special(tarfile.LNKTYPE, target="bottle/train/good/0.png")]),
    "character device": tar(FEW, "w", [special(tarfile.CHRTYPE)]),
    "block device": tar(FEW, "w", [special(tarfile.BLKTYPE)]),
    "pipe": tar(FEW, "w", [special(tarfile.FIFOTYPE)]),
    "folder outside": tar(FEW, "w", [special(tarfile.DIRTYPE, name="../evil")]),
    "symbolic link in a zip": zipped({"bottle/link": b"/etc/passwd"}, mode=0o120777),
    "folder that is a link, in a zip": zipped({"bottle/": b"/etc"}, mode=0o120777),
}


@pytest.mark.parametrize("kind", EVIL)
def test_an_archive_that_wants_out_is_refused_and_writes_nothing_outside(unpack, tmp_path, kind):
    beside = set(tmp_path.parent.iterdir())
    with pytest.raises(UserError, match="not the archive as published") as refusal:
        unpack(EVIL[kind])
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 1000
    assert set(tmp_path.parent.iterdir()) == beside
    assert {path.name for path in tmp_path.iterdir()} <= {"some.archive", "out"}
    written = files_of(tmp_path / "out") if (tmp_path / "out").exists() else {}
    assert written.items() <= FEW.items()


def test_an_encrypted_file_in_a_zip_is_refused(unpack):
    content = bytearray(zipped({"a.png": b"x"}))
    content[content.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(UserError, match="encrypted"):
        unpack(bytes(content))


# --- bombs ---


@pytest.mark.parametrize("how", ["w:xz", "zip"])
def test_what_would_unpack_to_too_much_is_refused_before_it_is_written(unpack, tmp_path, monkeypatch, how):
    monkeypatch.setattr(archives, "MOST_BYTES", 3 << 20)
    with pytest.raises(UserError, match="or 3,145,728 bytes"):
        unpack(PACKERS[how]({"a/one": bytes(2 << 20), "a/two": bytes(2 << 20)}))
    assert not (tmp_path / "out/a/two").exists()


def test_what_is_not_wanted_counts_too(unpack, monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 1 << 20)
    with pytest.raises(UserError, match="or 1,048,576 bytes"):
        unpack(tar({"a/one": bytes(2 << 20)}), lambda name: False)


@pytest.mark.parametrize("kind", ["files", "folders"])
def test_too_many_members_are_refused(unpack, monkeypatch, kind):
    monkeypatch.setattr(archives, "MOST_MEMBERS", 10)
    folders = [special(tarfile.DIRTYPE, name="a") for _ in range(11)] if kind == "folders" else []
    with pytest.raises(UserError, match="more than 10 files"):
        unpack(tar({} if folders else {f"a/{i}": b"" for i in range(11)}, members=folders))


def test_a_negative_size_does_not_make_room_for_more(unpack, monkeypatch):
    """Old releases of tarfile go back and read the same member again and again."""
    monkeypatch.setattr(archives, "MOST_MEMBERS", 100)
    info = tarfile.TarInfo("x")
    info.size = -512
    with pytest.raises(UserError, match=r"unpacks to more than|damaged"):
        unpack(info.tobuf(tarfile.GNU_FORMAT) * 2 + bytes(10240))


def test_a_zip_that_says_less_than_it_holds_writes_no_more_than_it_says(unpack, tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(1 << 20))
    lying = content.getvalue().replace((1 << 20).to_bytes(4, "little"), (99).to_bytes(4, "little"))
    with pytest.raises(UserError, match="damaged"):
        unpack(lying)
    assert len((tmp_path / "out/a.png").read_bytes()) <= 99


# --- damage ---

PLAIN = tar(MVTEC, "w")
FIRST_HEADER_OF_SCREW = PLAIN.index(b"screw/train/good/0.png")
DAMAGED = {
    "empty": b"",
    "text": b"<html>not found</html>",
    "xz cut": tar(MVTEC)[:-200],
    "zip cut": zipped(MVTEC)[:-30],
    "gzip cut": tar(MVTEC, "w:gz")[:-50],
    "tar cut in a file": PLAIN[: FIRST_HEADER_OF_SCREW + 515],
    "tar cut before a header": PLAIN[:FIRST_HEADER_OF_SCREW],
    "header broken": PLAIN[:FIRST_HEADER_OF_SCREW] + b"S" + PLAIN[FIRST_HEADER_OF_SCREW + 1 :],
    "xz of something else": lzma.compress(b"x" * 999),
    "zip with a wrong sum": zipped(MVTEC).replace(MVTEC["bottle/test/dent/1.png"], b"other as long 123"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_archive_is_said_with_what_to_do(unpack, kind):
    with pytest.raises(UserError, match=r"is damaged or not an archive \(.+\): remove it, and run again"):
        unpack(DAMAGED[kind])


@pytest.mark.parametrize("how", PACKERS)
def test_any_damage_is_an_error_or_harmless(unpack, tmp_path, how):
    """Flipped bytes: what comes out is a clear error, or files by names that lead nowhere else."""
    good, chance = PACKERS[how](FEW), random.Random(7)
    refused = 0
    for _ in range(40):
        content = bytearray(good)
        for _ in range(chance.choice((1, 3, 20))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        try:
            unpack(bytes(content))
        except UserError:
            refused += 1
        for path in sorted((tmp_path / "out").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    assert refused > 5
    assert {path.name for path in tmp_path.iterdir()} <= {"some.archive", "out"}


def test_a_full_disk_is_not_taken_for_a_damaged_archive(unpack, tmp_path):
    (tmp_path / "out").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="cannot write"):
        unpack(tar(MVTEC))
