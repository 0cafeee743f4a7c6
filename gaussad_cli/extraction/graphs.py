"""The networks' ONNX graphs: exported once, then kept in the cache, from where they are loaded without torch."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from gaussad_cli.backbones.resolve import ResolvedNetwork
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.store import digest, version_of
from gaussad_cli.files import write_whole

GRAPHS = ".graphs"  # folder of the exported graphs in the cache
EXPORT_VERSION = 4  # raise it when the same network would give another graph


def load_graph(network: ResolvedNetwork, cache: Path) -> bytes:
    """Return the exported graph from the cache, or export it and keep it there.

    A file's name holds what it was exported from and the head of its own SHA-256: one that was changed is not taken.

    Raises
    ------
    UserError
        If the checkpoint does not fit, or the network cannot be exported.
    """
    backbone = network.backbone
    takes = [network.padding, backbone.input_size, backbone.mean, backbone.std, network.levels]
    made_by = [version_of("torch"), version_of("timm"), EXPORT_VERSION]
    grid = [network.grid] if network.grid else []  # graphs without one keep their names
    key = digest([backbone.name, network.checkpoint.sha256, *takes, *made_by, *grid])[:16]
    for path in (cache / GRAPHS).glob(f"{key}-*.onnx"):
        with suppress(OSError):
            content = path.read_bytes()
            if path.stem == f"{key}-{_head(content)}":
                return content
    graph = _export(network)
    with suppress(UserError):  # a cache that cannot be written shows where it matters
        write_whole(cache / GRAPHS / f"{key}-{_head(graph)}.onnx", lambda file: file.write(graph))
    return graph


def _export(network: ResolvedNetwork) -> bytes:
    from gaussad_cli.backbones.network import build_network
    from gaussad_cli.extraction.onnx_export import export_network

    return export_network(build_network(network), network.backbone)


def _head(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
