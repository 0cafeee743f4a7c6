"""What a distance is called, and how it is read from a fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.comparators.gmm import Covariance
from gaussad_cli.comparators.knn import SPADE_K
from gaussad_cli.errors import UserError, did_you_mean
from gaussad_cli.gaussian import distances
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression
from gaussad_cli.gaussian.distances import Projection, project
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.rows import mean_of
from gaussad_cli.gaussian.shrinkage import shrink
from gaussad_cli.gaussian.spectrum import Spectrum

Score = Literal["mahalanobis", "l2", "sed", "ocsvm", "knn", "gmm", "ood"]
SCORES: tuple[Score, ...] = ("mahalanobis", "l2", "sed", "ocsvm", "knn", "gmm", "ood")
NYSTROEM = "nystroem"


@dataclass(frozen=True)
class Scoring:
    """A score and how it is set.

    Attributes
    ----------
    score : its name
    compression : before the Mahalanobis distance
    setting : of a comparator: "nystroem" of the one-class SVM, "k50" neighbours, "shared3" or "own3" Gaussians
    """

    score: Score
    compression: Compression = NO_COMPRESSION
    setting: str = ""

    @property
    def mode(self) -> str:
        """What the results' column `mode` says."""
        return self.setting or self.compression.mode

    @property
    def var(self) -> float | None:
        """What the results' column `var` says."""
        return self.compression.var

    @property
    def is_comparator(self) -> bool:
        """Whether the score is fitted to features, not read from a spectrum."""
        return self.score in _COMPARATORS

    @property
    def weighs_levels(self) -> bool:
        """Whether the score is of all levels together only, by weights that it learns."""
        return self.score == "ood"


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


@dataclass(frozen=True)
class Fold:
    """What a fold's scores at one level are read from.

    Attributes
    ----------
    spectrum : fitted to the fold's training features
    train : returns those features (n, D); only comparators call it
    """

    spectrum: Spectrum
    train: Callable[[], NDArray[Any]]


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
_DEFAULT_COMPONENTS = 2


@dataclass(frozen=True)
class Setting:
    """The options that go with one score each; see `gaussad evaluate --help`."""

    mode: str | None = None
    var: float | None = None
    k: int | None = None
    components: int | None = None
    covariance: str | None = None


_OPTIONS: dict[Score, tuple[str, ...]] = {
    "mahalanobis": ("mode", "var"),
    "ocsvm": ("mode",),
    "knn": ("k",),
    "gmm": ("components", "covariance"),
}
COVARIANCES: tuple[Covariance, ...] = ("shared", "own")


def choose_scorings(score: str | None, setting: Setting) -> tuple[Scoring, ...]:
    """Turn the command line's options into scorings; all of the paper's if none is given.

    Raises
    ------
    UserError
        If the options do not go together.
    """
    if score is None and setting == Setting():
        return PAPER_SCORINGS
    known = next((name for name in SCORES if name == (score or "mahalanobis")), None)
    if known is None:
        raise UserError(f"unknown score '{score}'.{did_you_mean(str(score), SCORES)} Known: {', '.join(SCORES)}.")
    options = _OPTIONS.get(known, ())
    for name, value in vars(setting).items():
        if value is not None and name not in options and (name, value) != ("mode", "all"):
            owners = [other for other, of_other in _OPTIONS.items() if name in of_other]
            raise UserError(f"--{name} {value} goes with --score {' or '.join(owners)}, not with {known}.")
    return (_choose_scoring(known, setting),)


def _choose_scoring(score: Score, setting: Setting) -> Scoring:
    if score == "mahalanobis":
        return Scoring(score, _choose_compression(setting.mode or "all", setting.var))
    if score == "ocsvm":
        if setting.mode not in (None, "all", NYSTROEM):
            raise UserError(f"unknown mode '{setting.mode}' of ocsvm. Known: all (exact), {NYSTROEM}.")
        return Scoring(score, setting=NYSTROEM if setting.mode == NYSTROEM else "")
    if score == "knn":
        return Scoring(score, setting=f"k{setting.k or SPADE_K}")
    if score == "gmm":
        covariance = setting.covariance or "shared"
        if covariance not in COVARIANCES:
            raise UserError(f"unknown --covariance '{covariance}'. Known: {', '.join(COVARIANCES)}.")
        return Scoring(score, setting=f"{covariance}{setting.components or _DEFAULT_COMPONENTS}")
    return Scoring(score)


def compression_name(compression: Compression) -> str:
    """Name a compression as the paper's columns do: "PCA 99%", "NPCA 0.1%"."""
    if compression.var is None:
        return "No compression"
    return f"{compression.mode.upper()} {100 * compression.var:g}%"


def score_all(fold: Fold, features: NDArray[Any], scorings: Sequence[Scoring]) -> list[Scored]:
    """Score features (m, D) by every scoring: the Gaussian's from one spectrum and one projection."""
    projection = project(fold.spectrum, features)
    return [_score(fold, projection, features, scoring) for scoring in scorings]


def _score(fold: Fold, projection: Projection, features: NDArray[Any], scoring: Scoring) -> Scored:
    spectrum = fold.spectrum
    if scoring.score == "l2":
        return Scored(distances.l2(projection), spectrum.dim, None)
    if scoring.score == "sed":
        return Scored(distances.sed(projection, spectrum), spectrum.dim, None)
    if scoring.is_comparator:
        return Scored(_COMPARATORS[scoring.score](fold, features, scoring.setting), spectrum.dim, None)
    shrinkage = shrink(spectrum, scoring.compression)
    distance = distances.mahalanobis(projection, spectrum, shrinkage)
    return Scored(distance, shrinkage.dim, shrinkage.intensity)


def _score_ocsvm(fold: Fold, features: NDArray[Any], setting: str) -> Array:
    from gaussad_cli.comparators import ocsvm

    train = fold.train()
    if setting == NYSTROEM:
        return ocsvm.score_ocsvm(ocsvm.fit_ocsvm(train, max_exact=0), features)
    model = ocsvm.fit_ocsvm(train)
    if model.way != "exact":
        raise UserError(
            f"the kernel of more than {ocsvm.MAX_EXACT} different features does not fit the exact one-class SVM: use "
            f"--mode {NYSTROEM}, or fewer --epochs."
        )
    return ocsvm.score_ocsvm(model, features)


def _score_knn(fold: Fold, features: NDArray[Any], setting: str) -> Array:
    from gaussad_cli.comparators.knn import score_knn

    return score_knn(fold.train(), features, int(setting.removeprefix("k")))


def _score_gmm(fold: Fold, features: NDArray[Any], setting: str) -> Array:
    from gaussad_cli.comparators.gmm import fit_gmm, score_gmm

    covariance = next(name for name in COVARIANCES if setting.startswith(name))
    components = int(setting.removeprefix(covariance))
    return score_gmm(fit_gmm(fold.train(), fold.spectrum, components, covariance), features)


_COMPARATORS: dict[Score, Callable[[Fold, NDArray[Any], str], Array]] = {
    "ocsvm": _score_ocsvm,
    "knn": _score_knn,
    "gmm": _score_gmm,
}


def weigh_levels(scoring: Scoring, levels: Sequence[Scored], anomalous: NDArray[np.bool_] | None) -> Scored:
    """Combine a fold's levels into one score.

    The mean of the distances ranks as the paper's sum does; the score of Lee et al. weighs them as it learns from a
    share of the test images, whose own distances are NaN from then on.

    Parameters
    ----------
    levels : one per level, each of the m images
    anomalous : (m,), None of images that nothing can be learnt from
    """
    distances_, dim = [level.distance for level in levels], sum(level.dim for level in levels)
    if anomalous is None or not scoring.weighs_levels:
        return Scored(mean_of(distances_), dim, None)
    from gaussad_cli.comparators import ood

    return Scored(ood.weigh_levels(np.square(np.stack(distances_, axis=1)), anomalous).scores, dim, None)


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
