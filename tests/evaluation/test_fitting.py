"""Spectra of folds from the cache: what is read, from where, and what is made of it."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from gaussad_cli.errors import UserError
from gaussad_cli.evaluation import fitting
from gaussad_cli.extraction import store
from gaussad_cli.gaussian.distances import mahalanobis, project
from gaussad_cli.gaussian.shrinkage import shrink

RECIPE = store.Recipe("toy", 1, "none", "", "tf", 16)


@pytest.fixture
def category(tmp_path):
    """A category of 60 images of 8 features each."""
    images = tuple(store.ImageEntry(f"train/good/{i}.png", "good", "") for i in range(60))
    train = store.split_folder(tmp_path, "data", RECIPE, "knob", "train")
    features = np.random.default_rng(0).standard_normal((60, 8), dtype=np.float32)
    store.write_features(train, store.Manifest("data", "knob", "train", RECIPE, images, {}), {1: features})
    return train.parent


def test_features_too_many_for_memory_are_fitted_from_disk_to_the_same_distances(category, monkeypatch):
    in_memory, _ = fitting.level_spectra(category, store.read_manifest(category / "train"), 1)
    with monkeypatch.context() as patched:
        patched.setattr(store, "ON_DISK", 0)
        patched.setattr(fitting, "CHUNK_ROWS", 7)
        patched.setattr(fitting, "fit_spectrum", lambda _: pytest.fail("a fold's features were in memory together"))
        from_disk, _ = fitting.level_spectra(category, store.read_manifest(category / "train"), 1)
    test = np.random.default_rng(1).standard_normal((5, 8))
    for one, other in zip(in_memory, from_disk, strict=True):
        distances = [mahalanobis(project(spectrum, test), spectrum, shrink(spectrum)) for spectrum in (one, other)]
        np.testing.assert_allclose(*distances, rtol=1e-12)


@pytest.mark.parametrize("on_disk", [0, store.ON_DISK])
def test_one_thread_adds_up_whatever_there_are(category, monkeypatch, on_disk):
    """Several add in another order: results would depend on the machine's cores and on --jobs."""
    monkeypatch.setattr(store, "ON_DISK", on_disk)
    name = "fit_folds" if on_disk == 0 else "fit_spectrum"
    fit, threads = getattr(fitting, name), []

    def watched(features):
        threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return fit(features)

    monkeypatch.setattr(fitting, name, watched)
    with threadpool_limits(2, user_api="blas"):
        fitting.level_spectra(category, store.read_manifest(category / "train"), 1)
    assert threads
    assert set(threads) == {1}


# --- stored spectra ---


@pytest.fixture
def stored(category):
    """The category with its spectra stored, and their file."""
    train = store.read_manifest(category / "train")
    spectra, _ = fitting.level_spectra(category, train, 1)
    fitting.store_spectra(category, train, 1, spectra)
    return store.spectra_path(category, 1)


def edit(path, digest=True):
    """Double a fold's mean in a file that can be read still, and leave out its digest if that is wanted."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if digest or name != "digest"}
    np.savez(path, **arrays | {"0_mean": 2 * arrays["0_mean"]})


def test_stored_spectra_are_read(category, stored):
    spectra, is_fitted = fitting.level_spectra(category, store.read_manifest(category / "train"), 1)
    assert (len(spectra), is_fitted) == (5, False)


@pytest.mark.parametrize("digest", [True, False])
def test_edited_spectra_are_fitted_again_to_the_same_bytes(category, stored, digest):
    train, before = store.read_manifest(category / "train"), stored.read_bytes()
    edit(stored, digest)
    spectra, is_fitted = fitting.level_spectra(category, train, 1)
    assert is_fitted
    fitting.store_spectra(category, train, 1, spectra)
    assert stored.read_bytes() == before


def test_spectra_that_stand_for_their_features_are_read_though_they_have_no_digest_of_their_own(category, stored):
    """Those of before there were digests: the manifest holds their file's."""
    with np.load(stored) as file:
        np.savez(stored, **{name: file[name] for name in file.files if name != "digest"})
    store.forget_features(category, [1])
    _, is_fitted = fitting.level_spectra(category, store.read_manifest(category / "train"), 1)
    assert not is_fitted


def test_edited_spectra_that_stand_for_their_features_are_an_error(category, stored):
    store.forget_features(category, [1])
    edit(stored)
    with pytest.raises(UserError, match=r"were not kept.* run 'gaussad extract' again"):
        fitting.level_spectra(category, store.read_manifest(category / "train"), 1)
