"""The table of scores: which options choose which, what they are called in the results, and what they measure."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM

from gaussad_cli.comparators import gmm, ocsvm
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import scorings
from gaussad_cli.evaluation.scorings import SCORES, Fold, Scored, Scoring, Setting, choose_scorings, score_all
from gaussad_cli.gaussian.compression import Compression
from gaussad_cli.gaussian.spectrum import fit_spectrum
from tests import reference

# Which options go with which score, and a value of each that does.
OPTIONS = {
    "mahalanobis": {"mode", "var"},
    "l2": set(),
    "sed": set(),
    "ocsvm": {"mode"},
    "knn": {"k"},
    "gmm": {"components", "covariance"},
    "ood": set(),
    "places": (of_places := {"mode", "var", "rho", "target", "channels", "smooth"}),
    "places-top": of_places,
    "places-scaled": of_places,
}
VALUES = {"mode": "pca", "var": 0.5, "k": 3, "components": 3, "covariance": "own"}
VALUES |= {"rho": "0.3", "target": "padim", "channels": 5, "smooth": 1.5}
NAMES = [
    ("mahalanobis", {}, "all", None),
    ("mahalanobis", {"mode": "all"}, "all", None),
    ("mahalanobis", {"mode": "pca"}, "pca", 0.99),
    ("mahalanobis", {"mode": "pca", "var": 0.95}, "pca", 0.95),
    ("mahalanobis", {"mode": "npca"}, "npca", 0.01),
    ("mahalanobis", {"mode": "npca", "var": 0.001}, "npca", 0.001),
    ("l2", {}, "all", None),
    ("l2", {"mode": "all"}, "all", None),
    ("sed", {}, "all", None),
    ("ocsvm", {}, "all", None),
    ("ocsvm", {"mode": "all"}, "all", None),
    ("ocsvm", {"mode": "nystroem"}, "nystroem", None),
    ("knn", {}, "k50", None),
    ("knn", {"k": 3}, "k3", None),
    ("gmm", {}, "shared2", None),
    ("gmm", {"components": 3}, "shared3", None),
    ("gmm", {"covariance": "own"}, "own2", None),
    ("gmm", {"components": 12, "covariance": "own"}, "own12", None),
    ("ood", {}, "all", None),
    ("places", {}, "npca", 0.1),
    ("places-top", {"mode": "npca"}, "npca", 0.1),
    ("places", {"var": 0.2}, "npca", 0.2),
    ("places", {"mode": "all"}, "all", None),
    ("places-scaled", {"mode": "pca", "rho": "closed"}, "pca rho=closed", 0.99),
    ("places", {"rho": "0.30"}, "npca rho=0.3", 0.1),
    ("places", {"rho": "0.5", "target": "image", "smooth": 0.0}, "npca", 0.1),
    ("places", {"mode": "all", "target": "padim", "channels": 9, "smooth": 4}, "all padim channels=9 smooth=4", None),
    ("places", {"target": "identity", "rho": "1"}, "npca identity rho=1", 0.1),
]


def draw(n, dim, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, dim)) * np.geomspace(3, 0.1, dim) + 1).astype(np.float32)


def score(scoring, train, test):
    fold = Fold(fit_spectrum(train), lambda: train)
    (scored,) = score_all(fold, test, [scoring])
    return scored


# --- the options ---


def test_every_score_is_tested_here():
    assert set(SCORES) == set(OPTIONS) == {name for name, *_ in NAMES}


@pytest.mark.parametrize(("name", "options", "mode", "var"), NAMES)
def test_options_choose_a_score_that_the_results_name_by_mode_and_var(name, options, mode, var):
    (scoring,) = choose_scorings(name, Setting(**options))
    assert (scoring.score, scoring.mode, scoring.var) == (name, mode, var)


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name in OPTIONS for option in VALUES if option not in OPTIONS[name]]
)
def test_an_option_of_other_scores_is_an_error_that_names_them(name, option):
    owners = " or ".join(other for other, options in OPTIONS.items() if option in options)
    with pytest.raises(UserError) as error:
        choose_scorings(name, Setting(**{option: VALUES[option]}))
    assert str(error.value) == f"--{option} {VALUES[option]} goes with --score {owners}, not with {name}."


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("mahalanobiss", {}, r"unknown score 'mahalanobiss'\. Did you mean mahalanobis\?"),
        ("mahalanobis", {"mode": "ica"}, "--mode ica: unknown mode 'ica'"),
        ("mahalanobis", {"var": 0.5}, "--var needs --mode pca or --mode npca"),
        ("mahalanobis", {"mode": "pca", "var": 1.0}, "--mode pca --var 1: var is 1"),
        ("mahalanobis", {"mode": "pca", "var": float("nan")}, "--mode pca --var nan: var is nan"),
        ("ocsvm", {"mode": "pca"}, "unknown mode 'pca' of ocsvm"),
        ("gmm", {"covariance": "full"}, "unknown --covariance 'full'"),
        ("places", {"mode": "ica"}, "--mode ica: unknown mode 'ica'"),
        ("places", {"mode": "all", "var": 0.5}, "--var needs --mode pca or --mode npca"),
        ("places", {"rho": "1.5"}, "--rho 1.5 is neither a number from 0 to 1 nor 'closed'"),
        ("places", {"rho": "nan"}, "--rho nan is neither"),
        ("places", {"rho": "auto"}, "--rho auto is neither"),
        ("places", {"target": "padim", "rho": "0.3"}, "leave out --rho"),
        ("places", {"target": "imag"}, r"unknown --target 'imag'\. Did you mean image\?"),
        ("places", {"channels": 0}, "--channels 0: at least one"),
        ("places", {"smooth": -1.0}, "--smooth -1: the sigma"),
    ],
)
def test_a_value_that_a_score_does_not_know_is_an_error(name, options, problem):
    with pytest.raises(UserError, match=problem):
        choose_scorings(name, Setting(**options))


def test_options_without_a_score_are_the_mahalanobis_distances():
    assert choose_scorings(None, Setting(mode="npca")) == (Scoring("mahalanobis", Compression("npca", 0.01)),)


def test_without_options_all_scorings_of_the_paper_are_chosen():
    chosen = choose_scorings(None, Setting())
    assert [(scoring.score, scoring.mode, scoring.var) for scoring in chosen] == list(reference.SCORINGS)


def test_the_columns_of_table_1_are_l2_sed_and_mahalanobis():
    assert [(scoring.score, scoring.mode) for scoring in scorings.TABLE_I] == [
        ("l2", "all"),
        ("sed", "all"),
        ("mahalanobis", "all"),
    ]


def test_the_columns_of_table_3_bear_the_papers_names():
    assert [scorings.compression_name(scoring.compression) for scoring in scorings.TABLE_III] == [
        "No compression",
        "PCA 99%",
        "PCA 95%",
        "NPCA 1%",
        "NPCA 0.1%",
        "NPCA 0.01%",
    ]


def test_the_chi_square_law_speaks_of_the_mahalanobis_distance_only():
    assert [name for name, entry in SCORES.items() if entry.is_gaussian] == ["mahalanobis"]


def test_only_the_score_of_lee_et_al_weighs_levels():
    assert [name for name, entry in SCORES.items() if entry.weighs_levels] == ["ood"]


def test_scores_of_places_are_not_read_from_averaged_features():
    with pytest.raises(UserError, match="--score places needs features of places, not averaged ones"):
        score(Scoring("places"), draw(20, 6), draw(7, 6))


# --- the distances ---


@pytest.mark.parametrize("dim", [6, 40], ids=["more images than features", "more features than images"])
@pytest.mark.parametrize(
    ("mode", "var"), [(mode, var) for name, mode, var in reference.SCORINGS if name == "mahalanobis"]
)
def test_mahalanobis_distances_are_those_of_scikit_learn(dim, mode, var):
    train, test = draw(20, dim), draw(7, dim, seed=1)
    expected, shrinkage, kept = reference.mahalanobis(train.astype(float), test.astype(float), mode, var)
    scored = score(Scoring("mahalanobis", Compression(mode, var)), train, test)
    np.testing.assert_allclose(scored.distance, expected, rtol=1e-9)
    assert (scored.dim, scored.shrinkage) == (kept, pytest.approx(shrinkage, rel=1e-9))


@pytest.mark.parametrize(("name", "function"), [("l2", reference.l2), ("sed", reference.sed)])
def test_euclidean_distances_are_those_of_the_formulas(name, function):
    train, test = draw(20, 6), draw(7, 6, seed=1)
    scored = score(Scoring(name), train, test)
    np.testing.assert_allclose(scored.distance, function(train.astype(float), test.astype(float)), rtol=1e-12)
    assert (scored.dim, scored.shrinkage) == (6, None)


def test_sed_is_undefined_where_a_feature_does_not_vary():
    train = draw(20, 6)
    train[:, 2] = 0.0
    assert np.isnan(score(Scoring("sed"), train, draw(7, 6, seed=1)).distance).all()


def test_one_class_svm_scores_are_scikit_learns_negated():
    train, test = draw(60, 6).astype(float), draw(30, 6, seed=1).astype(float)
    expected = -OneClassSVM(tol=1e-9).fit(train).decision_function(test)
    scored = score(Scoring("ocsvm"), train, test)
    np.testing.assert_allclose(scored.distance, expected, atol=1e-6 * np.ptp(expected), rtol=0)
    assert (scored.dim, scored.shrinkage) == (6, None)


def test_the_nystroem_mode_ranks_nearly_as_the_exact_one_class_svm():
    train, test = draw(300, 6).astype(float), draw(100, 6, seed=1).astype(float)
    exact = -OneClassSVM(tol=1e-9).fit(train).decision_function(test)
    scored = score(Scoring("ocsvm", setting="nystroem"), train, test)
    assert np.corrcoef(scored.distance, exact)[0, 1] > 0.99
    assert not np.array_equal(scored.distance, score(Scoring("ocsvm"), train, test).distance)


def test_a_kernel_that_does_not_fit_is_an_error_that_names_the_other_mode(monkeypatch):
    monkeypatch.setattr(ocsvm.fit_ocsvm, "__defaults__", (10, *ocsvm.fit_ocsvm.__defaults__[1:]))
    with pytest.raises(UserError, match="too many for the exact one-class SVM: use --mode nystroem"):
        score(Scoring("ocsvm"), draw(20, 6), draw(7, 6))


@pytest.mark.parametrize(("setting", "neighbours"), [("k3", 3), ("k50", 20)])
def test_neighbour_distances_are_over_as_many_neighbours_as_the_setting_says(setting, neighbours):
    train, test = draw(20, 6).astype(float), draw(7, 6, seed=1).astype(float)
    found, _ = NearestNeighbors(n_neighbors=neighbours).fit(train).kneighbors(test)
    scored = score(Scoring("knn", setting=setting), train, test)
    np.testing.assert_allclose(scored.distance, np.sqrt(np.mean(found**2, axis=1)), rtol=1e-9)


@pytest.mark.parametrize("setting", ["shared1", "own1"])
def test_a_mixture_of_one_gaussian_is_the_mahalanobis_distance(setting):
    train, test = draw(20, 6).astype(float), draw(7, 6, seed=1).astype(float)
    expected, _, _ = reference.mahalanobis(train, test)
    np.testing.assert_allclose(score(Scoring("gmm", setting=setting), train, test).distance, expected, rtol=1e-9)


@pytest.mark.parametrize(("setting", "asked"), [("shared3", (3, "shared")), ("own12", (12, "own"))])
def test_a_mixture_is_fitted_with_the_components_and_covariance_of_its_setting(monkeypatch, setting, asked):
    fit_gmm, seen = gmm.fit_gmm, []

    def watched(train, spectrum, components, covariance):
        seen.append((components, covariance))
        return fit_gmm(train, spectrum, 1)

    monkeypatch.setattr(gmm, "fit_gmm", watched)
    score(Scoring("gmm", setting=setting), draw(20, 6), draw(7, 6))
    assert seen == [asked]


def test_lee_et_al_take_the_mahalanobis_distance_of_each_level():
    train, test = draw(20, 6), draw(7, 6, seed=1)
    expected, _, _ = reference.mahalanobis(train.astype(float), test.astype(float))
    np.testing.assert_allclose(score(Scoring("ood"), train, test).distance, expected, rtol=1e-9)


def test_all_scorings_of_the_paper_are_read_from_one_projection(monkeypatch):
    project, calls = scorings.project, []
    monkeypatch.setattr(scorings, "project", lambda *each: calls.append(each) or project(*each))
    train = draw(20, 6)
    score_all(Fold(fit_spectrum(train), lambda: train), draw(7, 6), scorings.PAPER_SCORINGS)
    assert len(calls) == 1


def test_no_scoring_of_the_paper_reads_the_training_features_again():
    fold = Fold(fit_spectrum(draw(20, 6)), lambda: pytest.fail("the training features were read"))
    assert len(score_all(fold, draw(7, 6), scorings.PAPER_SCORINGS)) == 8


# --- several levels ---


def levels(m=40):
    """Distances of three levels, of normal and anomalous images in turn."""
    rng = np.random.default_rng(0)
    anomalous = np.arange(m) % 2 == 1
    return [Scored(rng.chisquare(9, m) + k * anomalous, 9 + k, 0.1) for k in range(3)], anomalous


def test_levels_are_combined_by_the_mean_of_their_unsquared_distances():
    some, anomalous = levels()
    combined = scorings.combine_levels(Scoring("mahalanobis"), some, anomalous)
    np.testing.assert_allclose(combined.distance, np.mean([level.distance for level in some], axis=0), rtol=1e-15)


def test_combined_levels_have_the_dimensions_of_all_and_no_shrinkage():
    some, anomalous = levels()
    combined = scorings.combine_levels(Scoring("mahalanobis"), some, anomalous)
    assert (combined.dim, combined.shrinkage) == (9 + 10 + 11, None)


def test_lee_et_al_score_a_tenth_of_each_class_no_more_as_it_is_learnt_from():
    some, anomalous = levels(m=60)
    learnt_from = np.isnan(scorings.combine_levels(Scoring("ood"), some, anomalous).distance)
    assert (learnt_from[anomalous].sum(), learnt_from[~anomalous].sum()) == (3, 3)


def test_lee_et_al_weigh_squared_distances_by_a_logistic_regression():
    some, anomalous = levels(m=60)
    combined = scorings.combine_levels(Scoring("ood"), some, anomalous).distance
    squared, learnt_from = np.stack([level.distance**2 for level in some], axis=1), np.isnan(combined)
    standard = (squared - squared[learnt_from].mean(axis=0)) / squared[learnt_from].std(axis=0)
    model = LogisticRegression().fit(standard[learnt_from], anomalous[learnt_from])
    expected = model.decision_function(standard)[~learnt_from]
    np.testing.assert_allclose(combined[~learnt_from], expected, rtol=1e-7, atol=1e-9)


def test_lee_et_al_learn_nothing_from_images_without_labels():
    some, _ = levels()
    combined = scorings.combine_levels(Scoring("ood"), some, None)
    np.testing.assert_allclose(combined.distance, np.mean([level.distance for level in some], axis=0), rtol=1e-15)
