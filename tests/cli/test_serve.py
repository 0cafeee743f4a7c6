"""The server, asked over a socket by a client of the standard library; it runs where torch and the rest are missing."""

import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from urllib.parse import quote

import numpy as np
import pytest
import uvicorn
from PIL import Image

from gaussad_cli.detector import serve as serving
from gaussad_cli.detector.model_folder import open_all
from gaussad_cli.detector.models import Opening
from gaussad_cli.extraction.engine import Compute
from tests.cli.test_light import COMMAND
from tests.conftest import ROOT, assert_user_error

MOST = 30_000  # bytes that the server takes


class Server:
    """`gaussad serve` in a process of its own, on a free port."""

    def __init__(self, *arguments, script=COMMAND):
        command = [sys.executable, "-c", script, "serve", *map(str, arguments), "--port", "0"]
        environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said = self.process.stderr.readline()
        found = re.search(r"http://[\d.]+:(\d+)", self.said)
        assert found, self.said + self.process.stderr.read()
        self.port = int(found[1])

    def stop(self):
        """End it as Ctrl-C does; return the exit status and what it said."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.content = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.content)


def ask(port, path, body=None, **options):
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET" if body is None else "POST", path, body, **options)
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def server(products):
    running = Server(products / "models", "--max-bytes", MOST)
    yield running
    code, out, err = running.stop()
    assert code == 130, err
    assert (out, err.splitlines()[-1]) == ("", "gaussad: stopped.")
    assert "Traceback" not in err


def image(products, name, number=0):
    return products / f"parts/{name}/{number}.png"


def rows(gaussad, model, *paths, options=()):
    """What `gaussad predict` says of images, without the time."""
    lines = gaussad("predict", model, *paths, "--format", "json", *options).out.splitlines()
    return [without_time(json.loads(line)) for line in lines]


def without_time(row):
    assert row.pop("time")
    return row


def test_the_models_are_listed(server, products):
    answer = ask(server.port, "/")
    assert answer.status == 200
    models = open_all(products / "models", Opening(Compute("onnx")))
    assert [model["name"] for model in answer.json["models"]] == ["cap", "knob", "lid"]
    for model in answer.json["models"]:
        assert model["threshold"] == models[model["name"]].threshold
        assert (model["backbone"], model["grid"]) == ("efficientnet-lite0", 0 if model["name"] == "cap" else 8)


@pytest.mark.parametrize("name", ["knob", "cap"])
def test_an_image_gets_the_row_that_predict_gives_it(server, products, gaussad, name):
    path = image(products, name)
    answer = ask(server.port, f"/predict/{name}?path={quote(str(path))}", path.read_bytes())
    (expected,) = rows(gaussad, products / f"models/{name}.gaussad", path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert without_time(answer.json) == {**expected, "model": name}


def test_an_image_needs_no_name(server, products):
    assert ask(server.port, "/predict/knob", image(products, "knob").read_bytes()).json["path"] == ""
    answer = ask(server.port, "/predict/knob", b"garbage")
    assert answer.json["error"] == "the body is not an image: replace or remove it, then run again."


def test_heat_maps_are_the_files_of_predict(server, products, gaussad, tmp_path):
    path = image(products, "lid")
    (expected,) = rows(gaussad, products / "models/lid.gaussad", path.parent, options=("--maps", "maps"))[:1]
    for kind, suffix in (("overlay", "overlay.png"), ("mask", "mask.png"), ("npy", "npy")):
        answer = ask(server.port, f"/map/lid?kind={kind}&path={quote(str(path))}", path.read_bytes())
        assert answer.status == 200
        assert answer.content == (tmp_path / f"maps/{path.name}.{suffix}").read_bytes()
        assert without_time(json.loads(answer.headers["Gaussad-Row"])) == {**expected, "model": "lid"}
    assert np.load(io.BytesIO(answer.content)).shape == (8, 8)
    assert ask(server.port, "/map/lid", path.read_bytes()).headers["content-type"] == "image/png"


def test_what_is_no_image_gets_the_message_of_predict(server, gaussad, tmp_path, products):
    (tmp_path / "a.png").write_bytes(b"garbage")
    (expected,) = rows(gaussad, products / "models/knob.gaussad", "a.png")
    for path in ("predict", "map"):
        answer = ask(server.port, f"/{path}/knob?path=a.png", b"garbage")
        assert answer.status == 422
        assert without_time(answer.json) == {**expected, "model": "knob"}


def test_an_image_of_too_many_pixels_is_refused(server):
    file = io.BytesIO()
    Image.new("1", (8193, 8193)).save(file, "PNG")
    assert len(file.getvalue()) < MOST
    answer = ask(server.port, "/predict/knob", file.getvalue())
    assert answer.status == 422
    assert "claims more than 67 million pixels" in answer.json["error"]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/predict/nut", 404, "unknown model 'nut'. Known: cap, knob, lid."),
        ("/predict", 404, "there are several models: name one in the address. Known: cap, knob, lid."),
        ("/map/cap", 400, "a pooled model has no heat maps."),
        ("/map/lid?kind=jpeg", 400, "unknown kind 'jpeg'. Known: overlay, mask, npy."),
        ("/elsewhere", 404, "Not Found"),
        ("/", 405, "Method Not Allowed"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(server, path, status, message):
    answer = ask(server.port, path, b"garbage")
    assert (answer.status, answer.json) == (status, {"error": message})


def test_a_body_that_says_it_is_too_large_is_not_asked_for(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        head = f"POST /predict/knob HTTP/1.1\r\nHost: x\r\nContent-Length: {MOST + 1}\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")  # and no 100


def test_a_body_that_is_too_large_is_not_taken_whatever_it_says(server):
    for pieces, status in (((MOST // 2, MOST // 2), 422), ((MOST // 2, MOST // 2, 1), 413)):
        body = iter([bytes(n) for n in pieces])
        answer = ask(server.port, "/predict/knob", body, headers={"Transfer-Encoding": "chunked"}, encode_chunked=True)
        assert answer.status == status
    assert answer.json == {"error": f"the body has more than {MOST} bytes."}


def test_a_client_that_leaves_in_the_middle_does_no_harm(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"POST /predict/knob HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    assert ask(server.port, "/").status == 200


def test_connections_beyond_the_limit_are_told_to_come_again(server):
    with ExitStack() as open_ones:
        for _ in range(serving._AT_ONCE):
            open_ones.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
        assert ask(server.port, "/").status == 503
    deadline = time.monotonic() + 30
    while ask(server.port, "/").status == 503:
        assert time.monotonic() < deadline


def test_clients_that_ask_at_the_same_time_get_what_each_gets_alone(server, products, gaussad):
    names = ["knob", "lid", "cap"]
    expected = {
        (name, i): {**row, "model": name, "path": ""}
        for name in names
        for i, row in enumerate(rows(gaussad, products / f"models/{name}.gaussad", products / f"parts/{name}"))
    }
    start = threading.Barrier(8)

    def client(number):
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        start.wait()
        for turn in range(6):
            key = names[(number + turn) % 3], (number + turn) % 3
            connection.request("POST", f"/predict/{key[0]}", image(products, *key).read_bytes())
            answer = Answer(connection.getresponse())
            yield key, answer.status, without_time(answer.json)
        connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for found in pool.map(lambda number: list(client(number)), range(8)) for answer in found]
    assert len(answers) == 48
    for key, status, row in answers:
        assert status == 200
        assert row == expected[key]


def test_one_model_needs_no_name_and_a_rate_moves_its_threshold(products, gaussad):
    model, path = products / "models/knob.gaussad", image(products, "knob")
    running = Server(model, "--fpr", "0.9", "--host", "0.0.0.0")
    warning = running.process.stderr.readline()
    assert warning.startswith("Whoever reaches this address can use it")
    answer = ask(running.port, "/predict", path.read_bytes())
    (expected,) = rows(gaussad, model, path, options=("--fpr", "0.9"))
    assert without_time(answer.json) == {**expected, "path": ""}
    assert ask(running.port, "/predict/knob", path.read_bytes()).status == 200
    assert running.stop() == (130, "", "gaussad: stopped.\n")


def test_a_client_that_is_slow_does_not_keep_the_server_from_stopping(products):
    running = Server(products / "models/knob.gaussad")
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        time.sleep(0.5)
        begun = time.monotonic()
        code, _, err = running.stop()
    assert code == 130
    assert err.splitlines()[-1] == "gaussad: stopped."
    assert time.monotonic() - begun < 20


def test_a_port_that_is_taken_is_said(gaussad, products):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = gaussad("serve", products / "models/knob.gaussad", "--port", port)
    assert_user_error(done, f"cannot serve on 127.0.0.1, port {port}", "Choose another --host or --port")


def test_models_that_cannot_be_served_end_it_at_once(gaussad, products, tmp_path):
    (tmp_path / "bad.gaussad").write_bytes(b"no model")
    assert_user_error(gaussad("serve", tmp_path), "bad.gaussad is not a gaussad model")
    assert_user_error(
        gaussad("serve", products / "models", "--threshold", "3"), "--threshold is a distance of one model"
    )


def test_without_the_extra_it_says_what_to_install(products):
    script = COMMAND.replace("['torch'", "['starlette', 'torch'")
    command = [sys.executable, "-c", script, "serve", str(products / "models")]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'needs starlette, which is not installed: pip install "gaussad[serve]"' in done.stderr


def test_a_bug_is_in_the_log_and_not_in_the_answer(products, monkeypatch, capfd):
    def broken(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(serving, "predict", broken)
    models = open_all(products / "models/knob.gaussad", Opening(Compute("onnx")))
    app = serving.application(models)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        answer = ask(listener.getsockname()[1], "/predict", image(products, "knob").read_bytes())
        running.should_exit = True
        thread.join()
    assert (answer.status, answer.json) == (500, {"error": "the server failed; its log says why."})
    assert "RuntimeError: secret" in capfd.readouterr().err
