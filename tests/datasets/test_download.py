"""Downloads from a server that interrupts, truncates, changes, stalls, redirects and lies."""

import hashlib
import os
import subprocess
import sys
import time
import urllib.request
from collections import namedtuple
from pathlib import Path

import pytest
from tqdm import tqdm

from gaussad_cli.datasets import archive as archives
from gaussad_cli.datasets import download as downloads
from gaussad_cli.datasets.index import find_categories
from gaussad_cli.errors import Interrupted, UserError
from gaussad_cli.files import locked
from tests.conftest import ROOT, assert_user_error
from tests.datasets.packing import MVTEC, VISA, tar
from tests.datasets.serving import Server

ARCHIVE = Path("data/mvtec_anomaly_detection.tar.xz")
PART = ARCHIVE.with_name(f"{ARCHIVE.name}.part")
VERSION = ARCHIVE.with_name(f"{ARCHIVE.name}.part.version")
CATEGORIES = ("--categories", "bottle,screw")
Usage = namedtuple("Usage", "free")  # of a disk, bytes


@pytest.fixture
def serve(monkeypatch):
    servers = []
    monkeypatch.setenv("no_proxy", "*")  # whatever proxies this machine has
    monkeypatch.setattr(archives, "_PAUSES", (0.001,) * 4)

    def start(content):
        servers.append(Server(content))
        return servers[-1]

    yield start
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


@pytest.fixture
def mvtec(serve):
    return serve(tar(MVTEC))


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def download(gaussad, server, *options):
    pin = () if "--sha256" in options else ("--sha256", sha256(server.content))
    return gaussad(
        *("download", "mvtec", "--accept-licence", "--url", server.url, "--data", "data"), *CATEGORIES, *pin, *options
    )


def leave_part(head, version='"1"'):
    """As an interrupted download leaves things."""
    PART.parent.mkdir(exist_ok=True)
    PART.write_bytes(head)
    VERSION.write_text(version)


def test_a_data_set_is_fetched_verified_and_extracted(gaussad, mvtec):
    done = download(gaussad, mvtec)
    assert done.code == 0, done.err
    assert done.out.split() == ["data/bottle", "data/screw"]
    assert [category.name for category in find_categories(Path("data"))] == ["bottle", "screw"]
    assert {path.name for path in Path("data").iterdir()} == {ARCHIVE.name, "bottle", "screw"}


# --- going on ---


def test_an_interrupted_download_goes_on_where_it_was(gaussad, mvtec):
    mvtec.cut = [100, 50]
    done = download(gaussad, mvtec)
    assert done.code == 0, done.err
    assert mvtec.requests == [None, "bytes=100-", "bytes=150-"]
    assert done.err.count("trying again") == 2


def test_a_stalled_connection_is_given_up_and_gone_on_with(gaussad, mvtec, monkeypatch):
    monkeypatch.setattr(archives, "_TIMEOUT", 0.1)
    mvtec.cut, mvtec.stall = [100], 0.3
    done = download(gaussad, mvtec)
    assert done.code == 0 and "timed out" in done.err
    assert mvtec.requests == [None, "bytes=100-"]


def test_what_was_given_up_goes_on_in_the_next_run(gaussad, mvtec, monkeypatch):
    mvtec.cut = [100] + [0] * 10
    monkeypatch.setattr(archives, "_PAUSES", (0.001,))
    assert_user_error(download(gaussad, mvtec), "ended early", "Run the same command again", "--url", "www.mvtec.com")
    assert PART.stat().st_size == 100
    mvtec.cut, mvtec.requests = [], []
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == ["bytes=100-"]


def test_ctrl_c_keeps_what_was_downloaded_and_says_how_to_go_on(gaussad, mvtec, monkeypatch):
    class Bar(tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(archives, "tqdm", Bar)
        interrupted.setattr(archives, "_CHUNK", 200)
        stopped = download(gaussad, mvtec)
    assert (stopped.code, PART.stat().st_size) == (130, 200)
    assert "run the same command again" in stopped.err and str(ARCHIVE) in stopped.err
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == [None, "bytes=200-"]


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_killed_download_goes_on_and_blocks_nobody(gaussad, mvtec):
    mvtec.cut, mvtec.stall = [100], 60
    command = ("download", "mvtec", "--accept-licence", "--url", mvtec.url, "--data", "data", *CATEGORIES)
    process = subprocess.Popen(
        [sys.executable, "-m", "gaussad_cli", *command, "--sha256", sha256(mvtec.content)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    while not PART.is_file() or PART.stat().st_size < 100:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    mvtec.stall = 0
    done = download(gaussad, mvtec)
    assert done.code == 0, done.err
    assert mvtec.requests == [None, "bytes=100-"]
    assert {path.name for path in Path("data").iterdir()} == {ARCHIVE.name, "bottle", "screw"}


@pytest.mark.parametrize("headers", [{"ETag": 'W/"1"'}, {}], ids=["weak", "none"])
def test_without_a_sure_sign_of_the_same_file_it_is_fetched_anew(gaussad, mvtec, headers):
    mvtec.cut, mvtec.headers = [100], headers
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == [None, None]


def test_a_date_of_last_change_is_a_sure_sign_too(gaussad, mvtec):
    mvtec.cut, mvtec.headers = [100], {"ETag": 'W/"1"', "Last-Modified": "Tue, 24 Nov 2026 10:00:00 GMT"}
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == [None, "bytes=100-"]


# --- not gluing ---


def test_a_file_that_changed_meanwhile_is_fetched_anew(gaussad, mvtec):
    leave_part(b"the head of another file", version='"0"')
    assert download(gaussad, mvtec).code == 0
    assert ARCHIVE.read_bytes() == mvtec.content


@pytest.mark.parametrize("lie", ["bytes 3-9/*", None])
def test_a_server_that_sends_another_part_is_not_believed(gaussad, mvtec, lie):
    leave_part(b"the head of another file")
    mvtec.lie = {"Content-Range": lie}
    assert download(gaussad, mvtec).code == 0
    assert ARCHIVE.read_bytes() == mvtec.content
    assert mvtec.requests == ["bytes=24-", None]


def test_a_server_without_ranges_sends_it_all(gaussad, mvtec):
    leave_part(b"x" * 10)
    mvtec.ranges = False
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == ["bytes=10-"]


def test_a_part_that_is_longer_than_the_file_is_given_up(gaussad, mvtec):
    leave_part(b"x" * 10**5)
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == ["bytes=100000-", None]


def test_an_old_part_is_never_paired_with_a_new_version(gaussad, mvtec, monkeypatch):
    leave_part(b"the head of another file", version='"0"')
    with monkeypatch.context() as full:
        full.setattr(archives.shutil, "disk_usage", lambda _: Usage(10))
        assert_user_error(download(gaussad, mvtec), "0.0 GB free", "make room")
    assert download(gaussad, mvtec).code == 0
    assert ARCHIVE.read_bytes() == mvtec.content


def test_a_part_of_an_unknown_version_is_fetched_anew(gaussad, mvtec):
    leave_part(b"x" * 10, version="")
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == [None]


# --- refusals ---


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (429, 5), (503, 5)])
def test_what_the_server_refuses_is_said_and_where_to_look(gaussad, mvtec, status, requests):
    mvtec.status = status
    assert_user_error(download(gaussad, mvtec), str(status), "www.mvtec.com", "--url")
    assert len(mvtec.requests) == requests


def test_a_page_for_people_costs_nothing_of_what_is_there(gaussad, mvtec):
    leave_part(mvtec.content[:100])
    mvtec.headers = {"Content-Type": "text/html; charset=utf-8"}
    assert_user_error(download(gaussad, mvtec), "a page for a browser")
    assert PART.read_bytes() == mvtec.content[:100]


def test_a_server_that_is_not_there_is_said(gaussad, mvtec):
    mvtec.server.server_close()
    assert_user_error(download(gaussad, mvtec), "cannot download", "refused", "Run the same command again")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "https://", "http://[x", "http://h:p/", "a b"])
def test_what_is_no_address_is_said_before_anything_is_done(gaussad, serve, url):
    done = gaussad("download", "mvtec", "--accept-licence", "--data", "data", "--url", url)
    assert_user_error(done, "is not a web address")


def test_a_disk_without_room_for_archive_and_images_is_said_before(gaussad, mvtec, monkeypatch):
    free = int(1.05 * len(mvtec.content))  # 2 of 15 categories: 1.13 are wanted
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: Usage(free))
    assert_user_error(download(gaussad, mvtec), "GB free", "make room")
    assert not PART.exists() or PART.stat().st_size == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_not_taken_for_a_bad_connection(gaussad, mvtec, monkeypatch):
    monkeypatch.setattr(archives, "_CHUNK", 4096)
    PART.parent.mkdir()
    PART.symlink_to("/dev/full")
    with monkeypatch.context() as kept:
        kept.setattr(Path, "unlink", lambda *_, **__: None)
        assert_user_error(download(gaussad, mvtec), "cannot write", "No space left")
    assert len(mvtec.requests) == 1


def test_a_file_without_a_length_has_a_limit(gaussad, mvtec, monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 100)
    mvtec.headers["Content-Length"] = None
    assert_user_error(download(gaussad, mvtec), "more than 100 bytes")
    assert PART.stat().st_size <= 100


def test_a_file_without_a_length_is_downloaded(gaussad, mvtec):
    mvtec.headers["Content-Length"] = None
    assert download(gaussad, mvtec).code == 0


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_to_another_scheme_is_refused(gaussad, mvtec, target):
    mvtec.target = target
    assert_user_error(download(gaussad, mvtec), "edirect", target)
    assert len(mvtec.requests) == 1


@pytest.mark.parametrize(
    ("url", "target", "is_followed"),
    [
        ("http://a/x", "http://b/x", True),
        ("http://a/x", "https://b/x", True),
        ("https://a/x", "https://b/x", True),
        ("https://a/x", "HTTPS://b/x", True),
        ("https://a/x", "http://b/x", False),
    ],
)
def test_a_redirect_from_https_down_to_http_is_refused(url, target, is_followed):
    request, redirects = urllib.request.Request(url), archives._SafeRedirects()
    if is_followed:
        assert redirects.redirect_request(request, None, 302, "Found", {}, target).full_url == target
    else:
        with pytest.raises(UserError, match="redirects to 'http://b/x', which is not safe"):
            redirects.redirect_request(request, None, 302, "Found", {}, target)


def test_a_redirect_is_followed(gaussad, mvtec, serve):
    first = serve(b"")
    first.target = mvtec.url
    assert download(gaussad, first, "--sha256", sha256(mvtec.content)).code == 0


def test_a_folder_in_the_way_is_said(gaussad, mvtec):
    PART.mkdir(parents=True)
    assert_user_error(download(gaussad, mvtec), "cannot write", ".part")


def test_two_downloads_into_one_folder_do_not_mix(gaussad, mvtec):
    with locked([Path("data")]):
        assert_user_error(download(gaussad, mvtec), "another gaussad download is at work in data")
    assert mvtec.requests == []


# --- the hash ---


def test_a_wrong_hash_is_said_with_both_and_nothing_is_extracted(gaussad, mvtec):
    good = mvtec.content
    mvtec.content = good[:-100] + bytes(100)
    pin = ("--sha256", sha256(good))
    assert_user_error(download(gaussad, mvtec, *pin), sha256(good), sha256(mvtec.content), "remove it")
    assert {path.name for path in Path("data").iterdir()} == {ARCHIVE.name}
    ARCHIVE.unlink()
    mvtec.content = good
    assert download(gaussad, mvtec, *pin).code == 0
    assert mvtec.requests == [None, None]


def test_mvtec_has_its_published_hash(gaussad, mvtec):
    done = gaussad("download", "mvtec", "--accept-licence", "--url", mvtec.url, *CATEGORIES)
    assert_user_error(done, "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d as its owner publishes")


@pytest.mark.parametrize("sha", ["abc", "", "g" * 64, "0" * 63])
def test_what_is_no_hash_is_said_before_anything_is_fetched(gaussad, mvtec, sha):
    assert_user_error(download(gaussad, mvtec, "--sha256", sha), "64 hexadecimal digits")
    assert mvtec.requests == []


def visa(gaussad, server, *options):
    return gaussad(
        *("download", "visa", "--accept-licence", "--url", server.url, "--data", "data", "--categories", "candle"),
        *options,
    )


def download_again(folder="data"):
    """Make the next run fetch and extract again."""
    downloads.shutil.rmtree(f"{folder}/candle", ignore_errors=True)
    for archive in Path(folder).glob("*.tar"):
        archive.unlink()


def test_without_a_published_hash_the_second_download_must_be_as_the_first(gaussad, serve):
    server = serve(tar(VISA, "w"))
    first = visa(gaussad, server)
    digest, record = sha256(server.content), Path("data/VisA_20220922.tar.sha256")
    assert "The owner of VisA_20220922.tar publishes no hash" in first.err and digest in first.err
    assert "not 2eb8690c803ab37d" in first.err  # what others pin
    assert record.read_text() == f"{digest}  VisA_20220922.tar\n"
    download_again()
    assert visa(gaussad, server).code == 0
    download_again()
    server.content = tar({"VisA/" + name: content for name, content in VISA.items()}, "w")
    assert_user_error(visa(gaussad, server), digest, sha256(server.content), f"remove {record}")
    assert visa(gaussad, server, "--sha256", sha256(server.content)).code == 0
    assert record.read_text().startswith(sha256(server.content))


def test_a_damaged_archive_is_not_what_the_next_one_should_be(gaussad, serve):
    server = serve(tar(VISA, "w"))
    good, server.content = server.content, server.content[:2000]
    assert_user_error(visa(gaussad, server), "damaged", "remove it")
    download_again()
    server.content = good
    assert visa(gaussad, server).code == 0


def test_the_library_raises_interrupted_for_who_calls_it(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "fetch", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(Interrupted, match="run the same command again"):
        downloads.download(downloads.SOURCES["btad"], tmp_path, ["01"], None, None, print)
