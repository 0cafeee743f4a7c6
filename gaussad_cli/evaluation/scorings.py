"""What a distance is called and how it is read from a spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gaussad_cli.errors import UserError
from gaussad_cli.gaussian import distances
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.distances import Projection
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.shrinkage import shrink
from gaussad_cli.gaussian.spectrum import Spectrum

Score = Literal["mahalanobis", "l2", "sed"]
SCORES: tuple[Score, ...] = ("mahalanobis", "l2", "sed")


@dataclass(frozen=True)
class Scoring:
    """A score and, for the Mahalanobis distance, the compression before it."""

    score: Score
    compression: Compression = NO_COMPRESSION

    def __str__(self) -> str:
        return (
            self.score if self.compression == NO_COMPRESSION else f"{self.score}, {compression_name(self.compression)}"
        )


@dataclass(frozen=True)
class Scored:
    """The distances of one fold's test points, with what the working point needs.

    Attributes
    ----------
    distance : (m,) anomaly score, the larger the more anomalous; NaN where the score is undefined
    dim : dimensions it was computed in
    shrinkage : intensity rho, None for scores without a covariance
    """

    distance: Array
    dim: int
    shrinkage: float | None


MODES = (
    NO_COMPRESSION,
    Compression("pca", 0.99),
    Compression("pca", 0.95),
    Compression("npca", 0.01),
    Compression("npca", 0.001),
    Compression("npca", 0.0001),
)  # the columns of Table III
PAPER_SCORINGS = (Scoring("l2"), Scoring("sed"), *(Scoring("mahalanobis", mode) for mode in MODES))  # Tables I and III
_DEFAULT_VAR = {"pca": 0.99, "npca": 0.01}


def choose_scorings(score: str | None, mode: str | None, var: float | None) -> tuple[Scoring, ...]:
    """Turn the command line's options into scorings; all of the paper's if none is given.

    Raises
    ------
    UserError
        If the options do not go together.
    """
    if score is None and mode is None and var is None:
        return PAPER_SCORINGS
    known = next((name for name in SCORES if name == (score or "mahalanobis")), None)
    if known is None:
        raise UserError(f"unknown score '{score}'. Known: {', '.join(SCORES)}.")
    if known != "mahalanobis" and mode not in (None, "all"):
        raise UserError(f"--mode {mode} goes with --score mahalanobis, not with {score}.")
    return (Scoring(known, _choose_compression(mode or "all", var)),)


def compression_name(compression: Compression) -> str:
    """Name a compression as the paper's columns do: "PCA 99%", "NPCA 0.1%"."""
    if compression.var is None:
        return "No compression"
    return f"{compression.mode.upper()} {100 * compression.var:g}%"


def score_all(spectrum: Spectrum, projection: Projection, scorings: Sequence[Scoring]) -> list[Scored]:
    """Read every scoring off one spectrum and one projection."""
    return [_score(spectrum, projection, scoring) for scoring in scorings]


def _score(spectrum: Spectrum, projection: Projection, scoring: Scoring) -> Scored:
    if scoring.score == "l2":
        return Scored(distances.l2(projection), spectrum.dim, None)
    if scoring.score == "sed":
        return Scored(distances.sed(projection, spectrum), spectrum.dim, None)
    shrinkage = shrink(spectrum, scoring.compression)
    distance = distances.mahalanobis(projection, spectrum, shrinkage)
    return Scored(distance, shrinkage.dim, shrinkage.intensity)


def _choose_compression(mode: str, var: float | None) -> Compression:
    if mode == "all":
        if var is not None:
            raise UserError("--var goes with --mode pca or --mode npca: say which.")
        return NO_COMPRESSION
    if mode not in ("pca", "npca"):
        raise UserError(f"unknown mode '{mode}'. Known: all, pca, npca.")
    share = _DEFAULT_VAR[mode] if var is None else var
    if not 0.0 < share < 1.0:
        raise UserError(
            f"--var {share:g}: a share of the variance between 0 and 1, such as 0.99 for pca, 0.01 for npca."
        )
    return Compression("pca" if mode == "pca" else "npca", share)
