"""Downloads from a server that interrupts, truncates, corrupts, changes and lies; archives that want out."""

import hashlib
import io
import lzma
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gaussad_cli.datasets import archive as archives
from gaussad_cli.datasets import download as downloads
from gaussad_cli.datasets.archive import extract
from gaussad_cli.datasets.index import find_categories
from gaussad_cli.errors import UserError
from tests.conftest import assert_user_error

PIXEL = b"not decoded here"
MVTEC = {
    f"{category}/{folder}/{i}.png": PIXEL + bytes([i])
    for category in ("knob", "lid")
    for folder, n in (("train/good", 6), ("test/good", 2), ("test/dent", 2), ("ground_truth/dent", 2))
    for i in range(n)
} | {"license.txt": b"terms", "readme.txt": b"read me"}


def tar(files, mode="w:xz", members=()):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for member in members:
            file.addfile(member, io.BytesIO(b""))
    return buffer.getvalue()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


class Server:
    """A file at /file.tar.xz, and how to misbehave: `cut` bytes are sent of an answer, then the connection ends."""

    def __init__(self, content):
        self.content, self.etag, self.cut, self.status, self.ranges, self.requests = content, '"1"', [], 200, True, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/file.tar.xz"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request):
        wanted = request.headers.get("Range")
        self.requests.append(wanted)
        if self.status != 200:
            request.send_error(self.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if not self.ranges or request.headers.get("If-Range") != self.etag:
            start = 0
        if start > len(self.content):
            request.send_error(416)
            return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        request.send_header("Content-Length", str(len(body)))
        request.send_header("ETag", self.etag)
        request.end_headers()
        request.wfile.write(body[: self.cut.pop(0)] if self.cut else body)


@pytest.fixture
def serve(monkeypatch):
    servers = []
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloads, "_PAUSE", 0.001)

    def start(content):
        servers.append(Server(content))
        return servers[-1]

    yield start
    for one in servers:
        one.server.shutdown()
        one.server.server_close()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def fetch(gaussad, server, *options, name="mvtec"):
    digest = ("--sha256", sha256(server.content)) if "--sha256" not in options else ()
    return gaussad("download", name, "--accept-licence", "--url", server.url, "--data", "data", *digest, *options)


def test_a_data_set_is_fetched_verified_and_extracted(gaussad, serve):
    server = serve(tar(MVTEC))
    done = fetch(gaussad, server)
    assert done.code == 0, done.err
    assert done.out.split() == ["data/knob", "data/lid"]
    assert "CC BY-NC-SA 4.0" in done.err
    assert [category.name for category in find_categories(Path("data"))] == ["knob", "lid"]
    assert sorted(path.name for path in Path("data").iterdir()) == ["file.tar.xz", "file.tar.xz.sha256", "knob", "lid"]


def test_nothing_is_fetched_before_the_licence_is_accepted(gaussad, serve):
    server = serve(tar(MVTEC))
    done = gaussad("download", "mvtec", "--url", server.url)
    assert_user_error(done, "--accept-licence")
    assert "creativecommons.org" in done.err
    assert server.requests == []


def test_an_interrupted_download_goes_on_where_it_was(gaussad, serve):
    server = serve(tar(MVTEC))
    server.cut = [100, 50]
    assert fetch(gaussad, server).code == 0
    assert server.requests == [None, "bytes=100-", "bytes=150-"]


def test_a_killed_download_goes_on_in_the_next_run(gaussad, serve, monkeypatch):
    server = serve(tar(MVTEC))
    server.cut = [100] + [0] * 10
    monkeypatch.setattr(downloads, "_ATTEMPTS", 2)
    assert_user_error(fetch(gaussad, server), "ended early", "run again", "--url")
    server.cut, server.requests = [], []
    assert fetch(gaussad, server).code == 0
    assert server.requests == ["bytes=100-"]


def test_a_file_that_changed_meanwhile_is_fetched_anew_and_not_glued(gaussad, serve):
    server = serve(tar(MVTEC))
    Path("data").mkdir()
    Path("data/file.tar.xz.part").write_bytes(b"the head of another file")
    downloads.write_json(Path("data/file.tar.xz.part.json"), {"url": server.url, "validator": '"0"'})
    assert fetch(gaussad, server).code == 0
    assert Path("data/file.tar.xz").read_bytes() == server.content


@pytest.mark.parametrize("length", [10, 10**6])
def test_a_server_without_ranges_and_a_part_that_is_too_long_are_coped_with(gaussad, serve, length):
    server = serve(tar(MVTEC))
    server.ranges = length > 10
    Path("data").mkdir()
    Path("data/file.tar.xz.part").write_bytes(b"x" * length)
    downloads.write_json(Path("data/file.tar.xz.part.json"), {"url": server.url, "validator": server.etag})
    assert fetch(gaussad, server).code == 0


def test_a_wrong_hash_is_an_error_with_both_hashes_and_nothing_is_extracted(gaussad, serve):
    server = serve(tar(MVTEC))
    done = fetch(gaussad, server, "--sha256", "0" * 64)
    assert_user_error(done, "0" * 64, sha256(server.content), ".wrong")
    assert not Path("data/knob").exists()
    assert not Path("data/file.tar.xz").exists()


def test_mvtec_has_its_published_hash(gaussad, serve):
    server = serve(tar(MVTEC))
    done = gaussad("download", "mvtec", "--accept-licence", "--url", server.url)
    assert_user_error(done, "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d")


def test_without_a_published_hash_the_second_download_must_be_the_first(gaussad, serve):
    server = serve(tar({"VisA/" + name: content for name, content in VISA.items()}))
    command = ("download", "visa", "--accept-licence", "--url", server.url, "--data", "data")
    assert sha256(server.content) in gaussad(*command).err
    Path("data/file.tar.xz").unlink()
    server.content = tar(VISA)
    assert_user_error(gaussad(*command), "SHA-256")


@pytest.mark.parametrize(("status", "fragment"), [(404, "answers 404"), (403, "answers 403"), (503, "503")])
def test_what_the_server_refuses_is_said(gaussad, serve, status, fragment):
    server = serve(b"")
    server.status = status
    assert_user_error(fetch(gaussad, server), fragment, "--url")
    assert len(server.requests) == (1 if status < 500 else 5)


def test_an_address_that_is_none_and_an_unknown_data_set_are_said(gaussad):
    url = ("--url", "file:///etc/passwd")
    assert_user_error(gaussad("download", "mvtec", "--accept-licence", *url), "no address")
    assert_user_error(gaussad("download", "mvtech", "--accept-licence"), "Did you mean mvtec?")


def test_only_the_wanted_categories_and_only_what_is_missing(gaussad, serve):
    server = serve(tar(MVTEC))
    assert fetch(gaussad, server, "--categories", "lid").out.split() == ["data/lid"]
    assert not Path("data/knob").exists()
    Path("data/lid/mine.txt").touch()
    assert fetch(gaussad, server, "--categories", "lid,knob").code == 0
    assert Path("data/lid/mine.txt").exists()
    assert Path("data/knob/train/good/0.png").is_file()
    assert len(server.requests) == 1
    assert_user_error(fetch(gaussad, server, "--categories", "cap"), "no category cap", "knob, lid")


VISA = {f"candle/Data/Images/Normal/{i}.JPG": PIXEL for i in range(8)}
VISA |= {f"candle/Data/Images/Anomaly/{i}.JPG": PIXEL for i in range(2)}
VISA |= {f"candle/Data/Masks/Anomaly/{i}.png": PIXEL for i in range(2)}
VISA["split_csv/1cls.csv"] = "\n".join(
    ["object,split,label,image,mask"]
    + [f"candle,{'train' if i < 6 else 'test'},normal,candle/Data/Images/Normal/{i}.JPG," for i in range(8)]
    + [f"candle,test,anomaly,candle/Data/Images/Anomaly/{i}.JPG,candle/Data/Masks/Anomaly/{i}.png" for i in range(2)]
).encode()


@pytest.mark.parametrize("root", ["", "VisA_20220922/"])
def test_visa_is_put_into_the_mvtec_layout(gaussad, serve, root):
    server = serve(tar({root + name: content for name, content in VISA.items()}, "w"))
    assert fetch(gaussad, server, name="visa").code == 0
    (category,) = find_categories(Path("data"))
    assert (category.name, len(category.train)) == ("candle", 6)
    assert [image.label for image in category.test] == ["bad", "bad", "good", "good"]
    assert Path("data/candle/ground_truth/bad/1_mask.png").is_file()


def test_btad_is_put_into_the_mvtec_layout(gaussad, serve):
    root = "BTech_Dataset_transformed/01/"
    files = {f"{root}train/ok/{i}.bmp": PIXEL for i in range(5)} | {f"{root}test/ok/{i}.bmp": PIXEL for i in range(2)}
    files |= {f"{root}test/ko/7.bmp": PIXEL, f"{root}ground_truth/ko/7.png": PIXEL}
    assert fetch(gaussad, serve(zipped(files)), name="btad").code == 0
    (category,) = find_categories(Path("data"))
    assert [image.name for image in category.test] == ["test/defect/7.bmp", "test/good/0.bmp", "test/good/1.bmp"]
    assert Path("data/01/ground_truth/defect/7_mask.png").is_file()


def link(kind, name="knob/train/good/9.png", target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


NAMES = [
    "../out.png",
    "/abs.png",
    "knob/../../out.png",
    "C:/x.png",
    "a\\b.png",
    "knob/con.png",
    "x/\x01.png",
    "x./y.png",
]
EVIL = {name: tar({**MVTEC, name: b"x"}) for name in NAMES}
EVIL |= {f"zip {name}": zipped({**MVTEC, name: b"x"}) for name in NAMES}
EVIL |= {
    "symlink": tar(MVTEC, members=[link(tarfile.SYMTYPE)]),
    "hard link": tar(MVTEC, members=[link(tarfile.LNKTYPE)]),
    "device": tar(MVTEC, members=[link(tarfile.CHRTYPE)]),
    "pipe": tar(MVTEC, members=[link(tarfile.FIFOTYPE)]),
    "case": tar({**MVTEC, "KNOB/train/good/0.png": b"x"}),
}


@pytest.mark.parametrize("kind", EVIL)
def test_an_archive_that_wants_out_is_refused_and_leaves_nothing(gaussad, serve, tmp_path, kind):
    before = set(tmp_path.parent.rglob("*"))
    assert_user_error(fetch(gaussad, serve(EVIL[kind])), "not the published archive")
    after = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.parent.rglob("*")) - before}
    assert after == {"data", "data/file.tar.xz", "data/file.tar.xz.sha256"}


def test_a_symlink_in_a_zip_is_refused(gaussad, serve):
    buffer = io.BytesIO(zipped(MVTEC))
    with zipfile.ZipFile(buffer, "a") as file:
        info = zipfile.ZipInfo("knob/train/good/9.png")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    assert_user_error(fetch(gaussad, serve(buffer.getvalue())), "a link")


def test_bombs_are_stopped(tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.tar.xz"
    bomb.write_bytes(tar({"a/train/x": bytes(3 << 20)}))
    monkeypatch.setattr(archives, "MOST_BYTES", 1 << 20)
    with pytest.raises(UserError, match="unpacks to more"):
        extract(bomb, tmp_path / "out", lambda _: True)
    bomb.write_bytes(tar({f"a/{i}": b"" for i in range(12)}))
    monkeypatch.setattr(archives, "MOST_FILES", 10)
    with pytest.raises(UserError, match="more than 10 files"):
        extract(bomb, tmp_path / "out2", lambda _: True)


@pytest.mark.parametrize("content", [b"", b"text", tar(MVTEC)[:-200], lzma.compress(b"x" * 999), zipped(MVTEC)[:-30]])
def test_a_damaged_archive_is_said(gaussad, serve, content):
    assert_user_error(fetch(gaussad, serve(content)), "damaged or no archive")
    assert not Path("data/knob").exists()
