"""Features to test the comparators on."""

import numpy as np


def correlated(n: int, dim: int, seed: int = 0, offset: float = 0.3) -> np.ndarray:
    """Features (n, dim) as networks make them: variances fall as a power law in some basis, means differ by feature."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    scales = np.arange(1, dim + 1) ** -0.8
    return (rng.standard_normal((n, dim)) * scales) @ basis + offset * rng.gamma(0.5, 1.0, dim)


def random(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim))


def augmented(images: int, epochs: int, dim: int, seed: int = 0) -> np.ndarray:
    """Features (images * epochs, dim), of which about half are exact copies of the image's own."""
    rng = np.random.default_rng(seed)
    plain = correlated(images, dim, seed)
    changed = rng.random((epochs, images, 1)) < 0.5
    return (plain + changed * 0.3 * rng.standard_normal((epochs, images, dim)) / dim**0.5).reshape(-1, dim)
