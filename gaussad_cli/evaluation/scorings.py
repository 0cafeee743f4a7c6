"""The table of scores, how the command line's options choose one, and how a score is computed for a fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaussad_cli.comparators.gmm import Covariance
from gaussad_cli.comparators.knn import SPADE_K
from gaussad_cli.errors import UserError, did_you_mean
from gaussad_cli.evaluation.place_setting import PlaceSetting, choose_place_setting
from gaussad_cli.gaussian import distances, places
from gaussad_cli.gaussian.compression import NO_COMPRESSION, Compression, choose_compression
from gaussad_cli.gaussian.distances import Projection, project
from gaussad_cli.gaussian.moments import Array
from gaussad_cli.gaussian.rows import mean_of
from gaussad_cli.gaussian.shrinkage import shrink
from gaussad_cli.gaussian.spectrum import Spectrum

MAHALANOBIS = "mahalanobis"
PLACES_GREATEST, PLACES_TOP, PLACES_SCALED = "places", "places-top", "places-scaled"  # read from the same heat maps
NYSTROEM = "nystroem"
COVARIANCES: tuple[Covariance, ...] = ("shared", "own")
_DEFAULT_COMPONENTS = 2


@dataclass(frozen=True)
class Scoring:
    """A score and its settings.

    Attributes
    ----------
    score : its name in :data:`SCORES`
    compression : the compression before the Mahalanobis distance
    setting : a comparator's setting: "nystroem" for the one-class SVM, "k50" for k-NN, "shared3" or "own3" for GMM; of
        places, the compression's mode and what is not the default: "npca rho=0.3"
    """

    score: str
    compression: Compression = NO_COMPRESSION
    setting: str = ""

    @property
    def mode(self) -> str:
        """The value of the results' column `mode`."""
        return self.setting or self.compression.mode

    @property
    def var(self) -> float | None:
        """The value of the results' column `var`."""
        return self.compression.var


@dataclass(frozen=True)
class Scored:
    """The distances of one fold's test points, and two numbers that describe the score.

    Attributes
    ----------
    distance : (m,) anomaly score, larger if more anomalous; NaN where the score is undefined
    dim : the number of dimensions of its space
    shrinkage : intensity rho, None for scores without a covariance
    """

    distance: Array
    dim: int
    shrinkage: float | None


@dataclass(frozen=True)
class Fold:
    """The data from which a fold's scores at one level are computed.

    Attributes
    ----------
    spectrum : the spectrum of the fold's training features
    train : function that returns those features (n, D); only comparators call it
    """

    spectrum: Spectrum
    train: Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class Setting:
    """The options of `gaussad evaluate` that only some scores take; see its help."""

    mode: str | None = None
    var: float | None = None
    k: int | None = None
    components: int | None = None
    covariance: str | None = None
    rho: str | None = None
    target: str | None = None
    channels: int | None = None
    smooth: float | None = None


@dataclass(frozen=True)
class Score:
    """An entry of :data:`SCORES`.

    Attributes
    ----------
    title : its name in tables and figures
    read : function that returns the distances of features (m, D), given their projection into the fold's eigenbasis
    options : the fields of :class:`Setting` that it takes
    choose : function that turns those options into compression and setting
    is_gaussian : whether the chi-square law applies to it: only to the Mahalanobis distance of one level
    weighs_levels : whether it is defined only for all levels together, with weights that it learns
    of_maps : function from heat maps (m, g, g), and the scale of held-out normal ones, to the images' scores (m,); only
        of scores of places
    """

    title: str
    read: Callable[[Fold, Projection, NDArray[Any], Scoring], Scored]
    options: tuple[str, ...] = ()
    choose: Callable[[Setting], tuple[Compression, str]] = lambda _: (NO_COMPRESSION, "")
    is_gaussian: bool = False
    weighs_levels: bool = False
    of_maps: Callable[[Array, places.MapScale], Array] | None = None


# --- how each score is computed for a fold ---


def _read_mahalanobis(fold: Fold, projection: Projection, _: NDArray[Any], scoring: Scoring) -> Scored:
    shrinkage = shrink(fold.spectrum, scoring.compression)
    distance = distances.mahalanobis(projection, fold.spectrum, shrinkage)
    return Scored(distance, shrinkage.dim, shrinkage.intensity)


def _read_l2(fold: Fold, projection: Projection, _: NDArray[Any], __: Scoring) -> Scored:
    return Scored(distances.l2(projection), fold.spectrum.dim, None)


def _read_sed(fold: Fold, projection: Projection, _: NDArray[Any], __: Scoring) -> Scored:
    return Scored(distances.sed(projection, fold.spectrum), fold.spectrum.dim, None)


def _read_ocsvm(fold: Fold, _: Projection, features: NDArray[Any], scoring: Scoring) -> Scored:
    from gaussad_cli.comparators import ocsvm

    exact = scoring.setting != NYSTROEM
    model = ocsvm.fit_ocsvm(fold.train(), *() if exact else (0,))
    if exact and model.way != "exact":
        raise UserError(
            f"more than {ocsvm.MAX_EXACT} different features are too many for the exact one-class SVM: use "
            f"--mode {NYSTROEM}, or fewer --epochs."
        )
    return Scored(ocsvm.score_ocsvm(model, features), fold.spectrum.dim, None)


def _read_knn(fold: Fold, _: Projection, features: NDArray[Any], scoring: Scoring) -> Scored:
    from gaussad_cli.comparators.knn import score_knn

    neighbours = int(scoring.setting.removeprefix("k"))
    return Scored(score_knn(fold.train(), features, neighbours), fold.spectrum.dim, None)


def _read_gmm(fold: Fold, _: Projection, features: NDArray[Any], scoring: Scoring) -> Scored:
    from gaussad_cli.comparators.gmm import fit_gmm, score_gmm

    covariance = next(name for name in COVARIANCES if scoring.setting.startswith(name))
    components = int(scoring.setting.removeprefix(covariance))
    mixture = fit_gmm(fold.train(), fold.spectrum, components, covariance)
    return Scored(score_gmm(mixture, features), fold.spectrum.dim, None)


def _read_averaged(_: Fold, __: Projection, ___: NDArray[Any], scoring: Scoring) -> Scored:
    raise UserError(f"--score {scoring.score} needs features of places, not averaged ones: extract with --grid.")


# --- how options choose each score ---


def _choose_mahalanobis(setting: Setting) -> tuple[Compression, str]:
    if setting.var is not None and setting.mode in (None, "all"):
        raise UserError("--var needs --mode pca or --mode npca.")
    try:
        return choose_compression(setting.mode or "all", setting.var), ""
    except ValueError as problem:
        var = "" if setting.var is None else f" --var {setting.var:g}"
        raise UserError(f"--mode {setting.mode}{var}: {problem}.") from None


def _choose_ocsvm(setting: Setting) -> tuple[Compression, str]:
    if setting.mode not in (None, "all", NYSTROEM):
        raise UserError(f"unknown mode '{setting.mode}' of ocsvm. Known: all (exact), {NYSTROEM}.")
    return NO_COMPRESSION, NYSTROEM if setting.mode == NYSTROEM else ""


def _choose_knn(setting: Setting) -> tuple[Compression, str]:
    return NO_COMPRESSION, f"k{setting.k or SPADE_K}"


def _choose_gmm(setting: Setting) -> tuple[Compression, str]:
    covariance = setting.covariance or "shared"
    if covariance not in COVARIANCES:
        raise UserError(f"unknown --covariance '{covariance}'. Known: {', '.join(COVARIANCES)}.")
    return NO_COMPRESSION, f"{covariance}{setting.components or _DEFAULT_COMPONENTS}"


def _choose_places(setting: Setting) -> tuple[Compression, str]:
    """Choose the compression, by default :data:`gaussad_cli.gaussian.places.PLACES`'s, and name what is not default."""
    default = places.PLACES.compression
    mode = setting.mode or ("npca" if setting.var is not None else default.mode)
    var = default.var if setting.var is None and mode == default.mode else setting.var
    compression, _ = _choose_mahalanobis(replace(setting, mode=mode, var=var))
    own = choose_place_setting(setting.rho, setting.target, setting.channels, setting.smooth)
    return compression, "" if own == PlaceSetting() else f"{compression.mode} {own}"


_PLACE_OPTIONS = ("mode", "var", "rho", "target", "channels", "smooth")
SCORES: dict[str, Score] = {
    MAHALANOBIS: Score("Mahalanobis", _read_mahalanobis, ("mode", "var"), _choose_mahalanobis, is_gaussian=True),
    "l2": Score("L2", _read_l2),
    "sed": Score("SED", _read_sed),
    "ocsvm": Score("oc-SVM", _read_ocsvm, ("mode",), _choose_ocsvm),
    "knn": Score("k-NN", _read_knn, ("k",), _choose_knn),
    "gmm": Score("GMM", _read_gmm, ("components", "covariance"), _choose_gmm),
    "ood": Score("Lee et al.", _read_mahalanobis, weighs_levels=True),
    PLACES_GREATEST: Score(
        "Places", _read_averaged, _PLACE_OPTIONS, _choose_places, of_maps=lambda maps, _: places.greatest(maps)
    ),
    PLACES_TOP: Score(
        "Places, top 1 %", _read_averaged, _PLACE_OPTIONS, _choose_places, of_maps=lambda maps, _: places.top_mean(maps)
    ),
    PLACES_SCALED: Score(
        "Places, scaled", _read_averaged, _PLACE_OPTIONS, _choose_places, of_maps=lambda maps, scale: scale.score(maps)
    ),
}

MODES = (
    NO_COMPRESSION,
    Compression("pca", 0.99),
    Compression("pca", 0.95),
    Compression("npca", 0.01),
    Compression("npca", 0.001),
    Compression("npca", 0.0001),
)  # the columns of Table III
TABLE_III = tuple(Scoring(MAHALANOBIS, mode) for mode in MODES)
TABLE_I = (Scoring("l2"), Scoring("sed"), Scoring(MAHALANOBIS))
PAPER_SCORINGS = (*TABLE_I[:2], *TABLE_III)


def choose_scorings(score: str | None, setting: Setting) -> tuple[Scoring, ...]:
    """Turn the command line's options into scorings; without options, into all of the paper's.

    Raises
    ------
    UserError
        If the options do not go together.
    """
    if score is None and setting == Setting():
        return PAPER_SCORINGS
    name = score or MAHALANOBIS
    if name not in SCORES:
        raise UserError(f"unknown score '{name}'.{did_you_mean(name, SCORES)} Known: {', '.join(SCORES)}.")
    for option, value in vars(setting).items():
        if value is not None and option not in SCORES[name].options and (option, value) != ("mode", "all"):
            owners = [other for other, entry in SCORES.items() if option in entry.options]
            raise UserError(f"--{option} {value} goes with --score {' or '.join(owners)}, not with {name}.")
    return (Scoring(name, *SCORES[name].choose(setting)),)


def is_of_places(scoring: Scoring) -> bool:
    """Whether a scoring reads heat maps, and so needs an extraction with a grid."""
    return SCORES[scoring.score].of_maps is not None


def compression_name(compression: Compression) -> str:
    """Name a compression as the paper's columns do: "PCA 99%", "NPCA 0.1%"."""
    if compression.var is None:
        return "No compression"
    return f"{compression.mode.upper()} {100 * compression.var:g}%"


def score_all(fold: Fold, features: NDArray[Any], scorings: Sequence[Scoring]) -> list[Scored]:
    """Score features (m, D) by every scoring; all Gaussian scores share one spectrum and one projection."""
    projection = project(fold.spectrum, features)
    return [SCORES[scoring.score].read(fold, projection, features, scoring) for scoring in scorings]


def combine_levels(scoring: Scoring, levels: Sequence[Scored], anomalous: NDArray[np.bool_] | None) -> Scored:
    """Combine a fold's levels into one score.

    The mean of the distances ranks images like the paper's sum. The score of Lee et al. learns weights of levels from
    a share of the test images, whose own distances then become NaN.

    Parameters
    ----------
    levels : one per level, each with the m images' distances
    anomalous : (m,), or None for images that cannot teach weights
    """
    by_level, dim = [level.distance for level in levels], sum(level.dim for level in levels)
    if anomalous is None or not SCORES[scoring.score].weighs_levels:
        return Scored(mean_of(by_level), dim, None)
    from gaussad_cli.comparators import ood

    return Scored(ood.weigh_levels(np.square(np.stack(by_level, axis=1)), anomalous).scores, dim, None)
