"""gaussad: image anomaly detection with one Gaussian (Rippel, Mertens, Merhof, ICPR 2020).

The command line is `gaussad`; in Python there are :class:`GaussianDetector` on features and :class:`ImageDetector` on
images.
"""

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime sends usage data unless this is set when it is first imported. All our imports of it pass here.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from gaussad_cli.detector.estimator import GaussianDetector
    from gaussad_cli.detector.image_detector import ImageDetector

__version__ = "0.1.0"
__all__ = ["GaussianDetector", "ImageDetector"]


def __getattr__(name: str) -> Any:
    """Import a detector when it is first used: only one of them needs scikit-learn, and the help needs neither."""
    if name == "GaussianDetector":
        from gaussad_cli.detector.estimator import GaussianDetector

        return GaussianDetector
    if name == "ImageDetector":
        from gaussad_cli.detector.image_detector import ImageDetector

        return ImageDetector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
