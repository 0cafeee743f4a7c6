"""A server that scores images: an image's bytes come by POST, its row or heat map is the answer.

Starlette and uvicorn do the work, which are extras: `pip install "gaussad[serve]"`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from threadpoolctl import threadpool_limits

from gaussad_cli import __version__
from gaussad_cli.detector.heatmaps import Pixels
from gaussad_cli.detector.look import ImageFeatures, look_at
from gaussad_cli.detector.map_files import DISTANCES, MASK, OVERLAY, draw
from gaussad_cli.detector.models import ReadyModel, Say
from gaussad_cli.detector.predict import ERROR, Prediction, predict, row_of, scale_of
from gaussad_cli.errors import ImageError, UserError, interruptible
from gaussad_cli.extraction.engine import usable_cores
from gaussad_cli.extraction.remarks import Remarks

MOST_BYTES = 50_000_000  # of a request's body, unless another number is given
ROW = "Gaussad-Row"  # header of a heat map
_KINDS = {
    "overlay": (OVERLAY, "image/png"),
    "mask": (MASK, "image/png"),
    "npy": (DISTANCES, "application/octet-stream"),
}  # of heat maps -> file of `map_files`, media type
_PATIENCE = 60.0  # seconds in which a body must have come
_AT_ONCE = 64  # connections; further ones are told to come again
_LAST = 5  # seconds that requests under way have left when the server is stopped
_UNNAMED = Path("the body")  # what messages call an image without a name


@interruptible("stopped.")
def serve(models: Mapping[str, ReadyModel], address: tuple[str, int], say: Say, most_bytes: int = MOST_BYTES) -> None:
    """Serve models until Ctrl-C.

    Parameters
    ----------
    models : by the names that requests choose them by
    address : host and port; port 0 takes a free one
    say : is told the address
    most_bytes : of a request's body

    Raises
    ------
    UserError
        If the address cannot be used.
    """
    with _listen(*address) as listener, threadpool_limits(1, user_api="blas"):  # as scoring does, whose limits nest
        say(f"Serving {', '.join(models)} on {_url(listener)}. Ctrl-C stops it.")
        if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
            say("Whoever reaches this address can use it: there is no password and no encryption.")
        config = uvicorn.Config(
            application(models, most_bytes),
            http="h11",
            ws="none",
            lifespan="off",
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_AT_ONCE,
            timeout_graceful_shutdown=_LAST,
        )
        uvicorn.Server(config).run([listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = f"cannot serve on {host}, port {port}: {error.strerror}"
        raise UserError(f"{reason}. Choose another --host or --port.") from None


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def application(models: Mapping[str, ReadyModel], most_bytes: int = MOST_BYTES) -> Starlette:
    """Return the ASGI application: `/` lists the models, `/predict` and `/map` take images."""
    server = _Server(models, most_bytes)
    posted = {"/predict": server.predict, "/map": server.map}
    named = {f"{path}/{{model}}": answer for path, answer in posted.items()}
    return Starlette(
        routes=[
            Route("/", server.list_models),
            *(Route(path, answer, methods=["POST"]) for path, answer in (posted | named).items()),
        ],
        exception_handlers={HTTPException: _refuse, Exception: _fail},
    )


@dataclass(frozen=True)
class _Server:
    """Answers requests. Images are decoded, scored and drawn in threads, as many at a time as there are cores.

    Attributes
    ----------
    models, most_bytes : see :func:`serve`
    """

    models: Mapping[str, ReadyModel]
    most_bytes: int
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(usable_cores()))
    remarks: Remarks = field(default_factory=Remarks)

    async def list_models(self, _: Request) -> Response:
        """Answer which models there are."""
        return _json({"gaussad": __version__, "models": [_describe(*item) for item in self.models.items()]})

    async def predict(self, request: Request) -> Response:
        """Answer with an image's row."""
        return await self._run(request, _answer_row)

    async def map(self, request: Request) -> Response:
        """Answer with an image's heat map, and its row in a header."""
        kind = request.query_params.get("kind", "overlay")
        if kind not in _KINDS:
            raise HTTPException(400, f"unknown kind '{kind:.80}'. Known: {', '.join(_KINDS)}.")
        if self._model(request).model.places is None:
            raise HTTPException(400, "a pooled model has no heat maps.")
        return await self._run(request, partial(_answer_map, *_KINDS[kind]))

    async def _run(self, request: Request, answer: Callable[[Scored], Response]) -> Response:
        model, name = self._model(request), request.query_params.get("path", "")
        content = await _body(request, self.most_bytes)

        def work() -> Response:
            return answer(_score(model, content, name, self.remarks))

        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    def _model(self, request: Request) -> ReadyModel:
        """Return the model that a request names, or the only one."""
        name = request.path_params.get("model", "")
        if not name and len(self.models) == 1:
            (name,) = self.models
        if name not in self.models:
            problem = f"unknown model '{name:.80}'" if name else "there are several models: name one in the address"
            raise HTTPException(404, f"{problem}. Known: {', '.join(self.models)}.")
        return self.models[name]


def _describe(name: str, ready: ReadyModel) -> dict[str, Any]:
    backbone = ready.model.backbone
    return {"name": name, "threshold": ready.threshold, "backbone": backbone.name, "grid": backbone.grid}


async def _body(request: Request, most_bytes: int) -> bytes:
    """Return a request's body; whatever its header says, no more than so many bytes are taken."""
    too_large = HTTPException(413, f"the body has more than {most_bytes} bytes.")
    if int(request.headers.get("content-length", 0)) > most_bytes:  # a number: the server has read it
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for chunk in request.stream():
                content += chunk
                if len(content) > most_bytes:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, f"the body did not come within {_PATIENCE:.0f} seconds.") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body did not come.") from None
    return bytes(content)


@dataclass(frozen=True)
class Scored:
    """What a model says about an image.

    Attributes
    ----------
    row : column -> value
    pixels : (H, W, 3) RGB or (H, W) gray, of the image; None if it could not be decoded
    """

    row: Mapping[str, Any]
    pixels: Pixels | None
    prediction: Prediction
    ready: ReadyModel


def _score(ready: ReadyModel, content: bytes, name: str, remarks: Remarks) -> Scored:
    path, pixels = Path(name or _UNNAMED), None
    try:
        image, pixels = look_at(ready.network, content, path, remarks)
    except ImageError as error:
        image = ImageFeatures(path, "", str(error))
    (prediction,) = predict(ready.model, [image], ready.threshold)
    row = row_of(replace(prediction, model=ready.name), *ready.columns) | {"path": name}
    return Scored(row, pixels, prediction, ready)


def _answer_row(scored: Scored) -> Response:
    return _json(scored.row, 422 if scored.row["decision"] == ERROR else 200)


def _answer_map(suffix: str, media_type: str, scored: Scored) -> Response:
    if scored.pixels is None or scored.prediction.heat_map is None:
        return _answer_row(scored)
    content = draw(suffix, scored.pixels, scored.prediction.heat_map, scale_of(scored.ready))
    return Response(content, media_type=media_type, headers={ROW: json.dumps(scored.row)})


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(f"{json.dumps(content)}\n", status, headers, "application/json")


async def _refuse(_: Request, error: Exception) -> Response:
    """Answer what is wrong with a request."""
    if not isinstance(error, HTTPException):
        raise error
    return _json({"error": error.detail}, error.status_code, error.headers)


async def _fail(_: Request, error: Exception) -> Response:  # noqa: ARG001 (the log has it, and no client)
    """Answer that it is the server's fault."""
    return _json({"error": "the server failed; its log says why."}, 500)
