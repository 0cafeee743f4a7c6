"""What a model makes of images: their scores, and how these come about."""

from __future__ import annotations

from dataclasses import dataclass, field

from gaussad_cli.gaussian.moments import Array


@dataclass(frozen=True)
class Scores:
    """Scores of m images: the greater, the more anomalous.

    Attributes
    ----------
    total : (m,) float64, the score that is compared with the threshold
    by_level : level -> (m,) distances whose mean is the score; empty for a model of places
    heat_maps : (m, g, g) float64 that the scores are read from; None for a pooled model
    whole : (m,) how far the images are as a whole, on the scale of the greatest values of the maps
    """

    total: Array
    by_level: dict[int, Array] = field(default_factory=dict)
    heat_maps: Array | None = None
    whole: Array | None = None
