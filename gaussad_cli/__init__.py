"""gaussad: image anomaly detection with one Gaussian (Rippel, Mertens, Merhof, ICPR 2020)."""

__version__ = "0.1.0"
