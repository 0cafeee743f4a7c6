"""The ONNX graph of a network, read and cut without torch."""

from __future__ import annotations

import onnx

MAP = "map_"  # and the level: what its feature map, before it is averaged or brought to a grid, is called in the graph


def feature_map_graph(network: bytes) -> bytes:
    """Turn the graph of a network into one that gives feature maps instead of features.

    Parameters
    ----------
    network : as :func:`gaussad_cli.extraction.onnx_export.export_network` makes it

    Returns
    -------
    A graph with the same input, and an output "map_k" (N, D_k, H_k, W_k) float32 per level k, in the order of levels
    """
    model = onnx.load_from_string(network)
    graph = model.graph
    maps = [value for value in graph.value_info if value.name.startswith(MAP)]
    graph.ClearField("output")
    graph.ClearField("value_info")
    graph.output.extend(maps)
    _keep_needed(graph)
    return model.SerializeToString(deterministic=True)


def _keep_needed(graph: onnx.GraphProto) -> None:
    """Keep the nodes and weights that the outputs depend on; ONNX Runtime would run the others too."""
    needed = {output.name for output in graph.output}
    nodes = []
    for node in reversed(graph.node):  # in an ONNX file, nodes come after those that they depend on
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    weights = [weight for weight in graph.initializer if weight.name in needed]
    graph.ClearField("node")
    graph.node.extend(reversed(nodes))
    graph.ClearField("initializer")
    graph.initializer.extend(weights)
