"""gaussad: image anomaly detection with one Gaussian (Rippel, Mertens, Merhof, ICPR 2020).

The command line is `gaussad`; in Python there are :class:`GaussianDetector` on features and :class:`ImageDetector` on
images.
"""

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime sends usage data unless this is set when it is first imported. All our imports of it pass here.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from gaussad_cli.detector.estimator import GaussianDetector, ImageDetector

__version__ = "0.1.0"
__all__ = ["GaussianDetector", "ImageDetector"]


def __getattr__(name: str) -> Any:
    """Import the detectors when they are first used, so that the help of the command line stays fast."""
    if name in __all__:
        from gaussad_cli.detector import estimator

        return getattr(estimator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
