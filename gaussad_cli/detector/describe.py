"""What `gaussad info` tells of a model file."""

from __future__ import annotations

from pathlib import Path

from gaussad_cli.detector.model import Model, lowest_rate


def describe_model(path: Path, model: Model) -> str:
    """Describe a model for a person: what it was made from, with which network, and how it decides."""
    backbone, calibration, distances = model.backbone, model.calibration, model.calibration.distances
    made_by, updates = model.provenance.get("gaussad", "unknown"), model.provenance.get("updates", 0)
    lines = [
        str(path),
        f"made by        gaussad {made_by}, updated {updates} times since",
        f"images         {model.n} normal ones",
        f"backbone       {backbone.name}, {backbone.input_size} x {backbone.input_size}, padding {backbone.padding}",
        f"weights        {backbone.weights}, SHA-256 {backbone.weights_sha256}",
        f"features       computed by {backbone.engine} in {backbone.precision}, from {backbone.preprocessing}",
        *(f"{name:<15}mode {model.gaussians.compression}: {text}" for name, text in model.gaussians.describe()),
        f"threshold      {calibration.threshold:.6g}, for a false-positive rate of {calibration.fpr:g}",
        f"calibration    {distances.size} distances"
        + (f" from {distances[0]:.6g} to {distances[-1]:.6g}" if distances.size else "")
        + f"; {lowest_rate(distances.size)}",
    ]
    return "\n".join(lines)
