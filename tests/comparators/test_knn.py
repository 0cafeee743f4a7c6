"""The scores are what the plain definition of SPADE gives, and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from gaussad_cli.comparators import knn
from gaussad_cli.comparators.knn import score_knn
from tests.comparators.drawing import augmented, correlated, random


def definition(train: np.ndarray, test: np.ndarray, k: int) -> np.ndarray:
    """(1/k) sum |f - f_y|^2, its root."""
    squared = [np.sort(np.square(train.astype(np.float64) - point).sum(axis=1))[:k] for point in test]
    return np.sqrt([s.mean() for s in squared])


@pytest.mark.parametrize("draw", [random, correlated])
@pytest.mark.parametrize(("n", "dim", "k"), [(170, 1792, 50), (170, 272, 5), (900, 48, 50), (900, 3, 1), (40, 20, 50)])
def test_scores_equal_scikit_learn(draw, n, dim, k):
    features = draw(n + 40, dim).astype(np.float32)
    train, test = features[:n].astype(np.float64), features[n:].astype(np.float64)
    distances, _ = NearestNeighbors(n_neighbors=min(k, n), algorithm="brute").fit(train).kneighbors(test)
    expected = np.sqrt(np.square(distances).mean(axis=1))
    np.testing.assert_allclose(score_knn(features[:n], features[n:], k), expected, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 60),
    m=st.integers(1, 20),
    dim=st.integers(1, 20),
    k=st.integers(1, 70),
    block=st.integers(1, 40),
    offset=st.sampled_from([0.0, -1e3, 1e7]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_blocks_and_offsets_equal_the_definition(n, m, dim, k, block, offset, seed):
    features = np.round(correlated(n + m, dim, seed) * 2**20) / 2**20  # on a grid: the offset is exact
    train, test = features[:n], features[n:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knn, "_BLOCK", block)
        scores = score_knn(train + offset, test + offset, k)
    np.testing.assert_allclose(scores, definition(train, test, k), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [1, 20, 50])
def test_a_training_feature_among_its_copies_is_at_its_exact_distance(k):
    train = augmented(30, 40, 48)
    scores = score_knn(train, train[:60], k)
    np.testing.assert_allclose(scores, definition(train, train[:60], k), rtol=1e-9, atol=0)
    assert (scores == 0).any() == (k < 50)


def test_neighbours_that_products_could_not_tell_apart_are_found():
    rng = np.random.default_rng(0)
    test = 1e3 * rng.standard_normal((5, 40))
    near = np.concatenate([point + 1e-7 * rng.exponential(size=(100, 1)) * rng.standard_normal(40) for point in test])
    train = np.concatenate([near, 1e3 * rng.standard_normal((200, 40))])
    expected = definition(train, test, 10)
    np.testing.assert_allclose(score_knn(train, test, 10), expected, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_training_features_does_not_matter(seed):
    train, test = augmented(10, 12, 10), correlated(20, 10, 1)
    shuffled = np.random.default_rng(seed).permutation(train)
    np.testing.assert_allclose(score_knn(shuffled, test, 7), score_knn(train, test, 7), rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 30))
def test_more_neighbours_are_farther_and_more_training_features_nearer(seed, k):
    features = random(80, 6, seed)
    score = score_knn(features[:40], features[60:], k)
    assert (score_knn(features[:40], features[60:], k + 1) >= score * (1 - 1e-12)).all()
    assert (score_knn(features[:60], features[60:], k) <= score * (1 + 1e-12)).all()


def test_one_training_feature_is_every_neighbour():
    np.testing.assert_allclose(score_knn(np.zeros((1, 2)), np.array([[3.0, 4.0], [0.0, 0.0]])), [5.0, 0.0])


def test_no_test_features_give_no_scores():
    assert score_knn(random(100, 3), np.empty((0, 3))).shape == (0,)


@pytest.mark.parametrize(
    ("train", "test", "k"),
    [
        (np.ones((3, 2)), np.ones((1, 3)), 1),
        (np.empty((0, 2)), np.ones((1, 2)), 1),
        (np.ones((3, 2)), np.ones((1, 2)), 0),
        (np.array([[np.nan, 1.0]]), np.ones((1, 2)), 1),
        (np.ones((3, 2)), np.array([[np.inf, 1.0]]), 1),
    ],
)
def test_what_cannot_be_searched_is_an_error(train, test, k):
    with pytest.raises(ValueError, match="features"):
        score_knn(train, test, k)
