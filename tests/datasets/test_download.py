"""Downloads from a server that interrupts, truncates, corrupts, changes, stalls and lies."""

import errno
import hashlib
import threading
import time
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tqdm import tqdm

from gaussad_cli.datasets import download as downloads
from gaussad_cli.datasets import fetch as fetching
from gaussad_cli.datasets.index import find_categories
from gaussad_cli.errors import Interrupted
from gaussad_cli.files import locked, write_json
from tests.conftest import assert_user_error
from tests.datasets.packing import MVTEC, VISA, tar

ARCHIVE = Path("data/mvtec_anomaly_detection.tar.xz")
PART = ARCHIVE.with_name(f"{ARCHIVE.name}.part")
NOTE = ARCHIVE.with_name(f"{ARCHIVE.name}.part.json")
CATEGORIES = ("--categories", "bottle,screw")
Usage = namedtuple("Usage", "free")  # of a disk, bytes


class Server:
    """A file, and how to misbehave; every answer uses up an entry of `cut`, and the last setting stays.

    Attributes
    ----------
    cut : bytes sent of each answer until the connection ends
    status : of every answer, where it is not 200
    headers : that are sent; None leaves one out
    lie : headers of an answer to a Range request, instead of the true ones
    """

    def __init__(self, content):
        self.content, self.cut, self.status, self.stall = content, [], 200, 0.0
        self.headers, self.lie, self.ranges, self.checks_condition, self.requests = {"ETag": '"1"'}, {}, True, True, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/some/file"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request):
        wanted = request.headers.get("Range")
        self.requests.append(wanted)
        if self.status != 200:
            request.send_error(self.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if self.checks_condition and request.headers.get("If-Range") not in self.headers.values():
            start = 0
        if start > len(self.content):
            request.send_error(416)
            return
        body = self.content[start:]
        size = len(self.content)
        headers = {"Content-Length": str(len(body)), **self.headers}
        if start:
            headers |= {"Content-Range": f"bytes {start}-{size - 1}/{size}", **self.lie}
        request.send_response(206 if start else 200)
        for name, value in headers.items():
            if value is not None:
                request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[: self.cut.pop(0)] if self.cut else body)
        request.wfile.flush()
        time.sleep(self.stall)


@pytest.fixture
def serve(monkeypatch):
    servers = []
    monkeypatch.setenv("no_proxy", "*")  # whatever proxies this machine has
    monkeypatch.setattr(fetching, "_PAUSE", 0.001)

    def start(content):
        servers.append(Server(content))
        return servers[-1]

    yield start
    for one in servers:
        one.server.shutdown()
        one.server.server_close()


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


def leave_part(server, head, validator='"1"', total=None):
    """As an interrupted download leaves things."""
    PART.parent.mkdir(exist_ok=True)
    PART.write_bytes(head)
    write_json(NOTE, {"url": server.url, "validator": validator, "total": total or len(server.content)})


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
    monkeypatch.setattr(fetching, "_TIMEOUT", 0.1)
    mvtec.cut, mvtec.stall = [100], 0.3
    done = download(gaussad, mvtec)
    assert done.code == 0 and "timed out" in done.err
    assert mvtec.requests == [None, "bytes=100-"]


def test_what_was_given_up_goes_on_in_the_next_run(gaussad, mvtec, monkeypatch):
    mvtec.cut = [100] + [0] * 10
    monkeypatch.setattr(fetching, "_ATTEMPTS", 2)
    assert_user_error(download(gaussad, mvtec), "ended early", "run again", "--url", "www.mvtec.com")
    assert PART.stat().st_size == 100
    mvtec.cut, mvtec.requests = [], []
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == ["bytes=100-"]


def test_ctrl_c_keeps_what_is_there_and_says_how_to_go_on(gaussad, mvtec, monkeypatch):
    read = fetching._chunks

    def chunks(response):
        yield next(read(response))[:200]
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "_chunks", chunks)
    stopped = download(gaussad, mvtec)
    assert (stopped.code, PART.stat().st_size) == (130, 200)
    assert "run the same command again" in stopped.err and str(ARCHIVE) in stopped.err
    monkeypatch.setattr(fetching, "_chunks", read)
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == [None, "bytes=200-"]


def test_a_part_that_is_complete_is_not_asked_for_again(gaussad, mvtec):
    leave_part(mvtec, mvtec.content)
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == []


@pytest.mark.parametrize("headers", [{"ETag": 'W/"1"'}, {}], ids=["weak", "none"])
def test_without_a_sure_sign_of_the_same_file_it_is_fetched_anew(gaussad, mvtec, headers):
    mvtec.cut, mvtec.headers = [100], headers
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == [None, None]


def test_a_date_of_last_change_is_a_sure_sign_too(gaussad, mvtec):
    mvtec.cut, mvtec.headers = [100], {"ETag": 'W/"1"', "Last-Modified": "Tue, 24 Nov 2026 10:00:00 GMT"}
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == [None, "bytes=100-"]


def test_retries_end_even_where_every_one_starts_anew(gaussad, mvtec):
    mvtec.headers, mvtec.cut = {}, [100, 50, 80, 50, 80, 50, 80, 50, 80, 50]
    assert_user_error(download(gaussad, mvtec), "ended early")
    assert len(mvtec.requests) == 6


# --- not gluing ---


def test_a_file_that_changed_meanwhile_is_fetched_anew(gaussad, mvtec):
    leave_part(mvtec, b"the head of another file", validator='"0"')
    assert download(gaussad, mvtec).code == 0
    assert ARCHIVE.read_bytes() == mvtec.content


@pytest.mark.parametrize(
    "setting",
    [
        {"headers": {"ETag": '"2"'}},
        {"lie": {"Content-Range": "bytes 3-9/*"}},
        {"lie": {"Content-Range": "bytes 24-99998/99999"}},
        {"lie": {"Content-Range": None}},
    ],
    ids=["another tag", "another start", "another size", "no range said"],
)
def test_a_server_that_goes_on_with_another_file_is_not_believed(gaussad, mvtec, setting):
    leave_part(mvtec, b"the head of another file")
    mvtec.checks_condition = False
    for name, value in setting.items():
        setattr(mvtec, name, value)
    assert download(gaussad, mvtec).code == 0
    assert ARCHIVE.read_bytes() == mvtec.content
    assert mvtec.requests == ["bytes=24-", None]


def test_a_server_without_ranges_sends_it_all(gaussad, mvtec):
    leave_part(mvtec, b"x" * 10)
    mvtec.ranges = False
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == ["bytes=10-"]


def test_a_part_that_is_longer_than_the_file_is_given_up(gaussad, mvtec):
    leave_part(mvtec, b"x" * 10**5, total=10**6)
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == ["bytes=100000-", None]


def test_an_old_head_never_gets_the_note_of_a_new_file(gaussad, mvtec, monkeypatch):
    leave_part(mvtec, b"the head of another file", validator='"0"')
    with monkeypatch.context() as full:
        full.setattr(fetching.shutil, "disk_usage", lambda _: Usage(10))
        assert_user_error(download(gaussad, mvtec), "0.0 GB free", "make room")
    assert download(gaussad, mvtec).code == 0
    assert ARCHIVE.read_bytes() == mvtec.content


@pytest.mark.parametrize("note", ["no JSON", "[]", '{"url": 3}', '{"total": "9", "validator": 1}'])
def test_a_note_that_is_damaged_is_none(gaussad, mvtec, note):
    leave_part(mvtec, b"x" * 10)
    NOTE.write_text(note.replace("{", f'{{"url": "{mvtec.url}", ', 1))
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == [None]


# --- refusals ---


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (429, 5), (503, 5)])
def test_what_the_server_refuses_is_said_and_where_to_look(gaussad, mvtec, status, requests):
    mvtec.status = status
    assert_user_error(download(gaussad, mvtec), str(status), "www.mvtec.com", "--url")
    assert len(mvtec.requests) == requests


def test_a_page_for_people_costs_nothing_of_what_is_there(gaussad, mvtec):
    leave_part(mvtec, mvtec.content[:100])
    mvtec.headers = {"Content-Type": "text/html; charset=utf-8"}
    assert_user_error(download(gaussad, mvtec), "a page to be read in a browser")
    assert PART.read_bytes() == mvtec.content[:100]


def test_a_server_that_is_not_there_is_said(gaussad, mvtec):
    mvtec.server.server_close()
    assert_user_error(download(gaussad, mvtec), "cannot fetch", "refused", "run again")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "https://", "http://[x", "http://h:p/", "a b"])
def test_what_is_no_address_is_said_before_anything_is_done(gaussad, serve, url):
    done = gaussad("download", "mvtec", "--accept-licence", "--data", "data", "--url", url)
    assert_user_error(done, "no address to download from")


def test_a_disk_without_room_for_archive_and_images_is_said_before(gaussad, mvtec, monkeypatch):
    free = int(1.05 * len(mvtec.content))  # 2 of 15 categories: 1.13 are wanted
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: Usage(free))
    assert_user_error(download(gaussad, mvtec), "GB free", "make room")
    assert not PART.exists() or PART.stat().st_size == 0


def test_a_full_disk_is_not_taken_for_a_bad_connection(gaussad, mvtec, monkeypatch):
    class Bar(tqdm):
        def update(self, n=1):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching, "bytes_bar", lambda *_: Bar())
    assert_user_error(download(gaussad, mvtec), "cannot write", "No space left")
    assert len(mvtec.requests) == 1


def test_a_folder_in_the_way_is_said(gaussad, mvtec):
    PART.mkdir(parents=True)
    assert_user_error(download(gaussad, mvtec), "cannot write", ".part")


def test_two_downloads_into_one_folder_do_not_mix(gaussad, mvtec):
    with locked([Path("data")]):
        assert_user_error(download(gaussad, mvtec), "another gaussad download is at work in data")
    assert mvtec.requests == []


# --- the hash ---


def test_a_wrong_hash_is_said_with_both_and_nothing_is_extracted_nor_resumed(gaussad, mvtec):
    good = mvtec.content
    mvtec.content = good[:-100] + bytes(100)
    assert_user_error(download(gaussad, mvtec, "--sha256", sha256(good)), sha256(good), sha256(mvtec.content), ".wrong")
    assert {path.name for path in Path("data").iterdir()} == {f"{ARCHIVE.name}.wrong"}
    mvtec.content = good
    assert download(gaussad, mvtec).code == 0
    assert mvtec.requests == [None, None]


def test_mvtec_has_its_published_hash(gaussad, mvtec):
    done = gaussad("download", "mvtec", "--accept-licence", "--url", mvtec.url, *CATEGORIES)
    assert_user_error(done, "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d as is published")


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
    assert "No hash of VisA_20220922.tar is published" in first.err and digest in first.err
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
