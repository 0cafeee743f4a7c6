"""`gaussad serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaussad_cli.cli.options import Cache, DecideAt, DecideBy, ModelFiles, note
from gaussad_cli.errors import UserError

_PACKAGES = ("starlette", "uvicorn")


def serve(
    model: ModelFiles,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Listen on this address.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Listen on this port; 0 takes a free one.")
    ] = 8000,
    max_bytes: Annotated[int, typer.Option(metavar="N", min=1, help="Refuse images of more bytes.")] = 50_000_000,
    threshold: DecideBy = None,
    fpr: DecideAt = None,
    cache: Cache = Path("cache"),
) -> None:
    """Serve models by HTTP: POST an image, get its row or its heat map. Ctrl-C stops it.

    POST to /predict, or to /predict/NAME where there are several models, answers with the row of gaussad predict as
    JSON; ?path= names the image in it. /map?kind=overlay (or mask, or npy) answers with the heat map. GET / lists the
    models. There is no password and no encryption: do not listen on an address that others can reach without a proxy
    that has them.

    Example: gaussad serve models

    Example: curl --data-binary @screws/new/017.png http://127.0.0.1:8000/predict/screw?path=017.png
    """
    try:
        from gaussad_cli.detector.serve import serve as serve_models
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise UserError(
            f'gaussad serve needs {error.name}, which is not installed: pip install "gaussad[serve]".'
        ) from None
    from gaussad_cli.detector.model_folder import open_all
    from gaussad_cli.detector.models import Opening
    from gaussad_cli.extraction.engine import Compute

    opening = Opening(Compute("onnx"), cache, None, threshold, fpr, note)
    serve_models(open_all(model, opening), (host, port), note, max_bytes)
