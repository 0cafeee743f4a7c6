"""A damaged file is refused in one line or gives the right result, and when it is sound again, so is everything."""

import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussad_cli.detector.container import write_model
from gaussad_cli.errors import ImageError
from gaussad_cli.extraction import store
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.files import sha256_of
from tests.conftest import ROOT
from tests.detector.tiny_network import tiny_model
from tests.robustness.damage import CSV, JSON, NPY, YAML, damaged, damaged_text, without_a_column
from tests.robustness.harness import COUNT, ERROR, REFUSED, attempt, gaussad, import_what_it_imports, tally
from tests.robustness.images import BOMBS, damaged_image, sound_images

SECONDS = 20.0  # that a case may take
MIB, MIB_OF_AN_IMAGE = 128, 1250  # that it may take beyond what the program has
LITE0 = ("--backbone", "efficientnet-lite0")
RESULTS = "results/tiny"
IMAGES = sound_images()
SETTINGS = [*sorted((ROOT / "configs").glob("*.yaml")), Path(store.__file__).with_name("augmentation.yaml")]


def cases(times):
    """Run a test on so many times COUNT cases."""
    profile = settings.get_profile("robustness")
    return lambda test: settings(profile, max_examples=times * (COUNT or 2))(given(data=st.data())(test))


def run(job, most_mib=MIB):
    ended = attempt(job, SECONDS)
    assert ended.is_clear, ended
    assert ended.memory <= most_mib
    return ended


# --- images ---


@cases(12)
def test_a_damaged_image_is_refused_or_decoded(tmp_path, data):
    name = data.draw(st.sampled_from(sorted(IMAGES)))
    path = tmp_path / name
    path.write_bytes(data.draw(damaged_image(IMAGES[name], list(IMAGES.values()))))
    decode("images", path)


@pytest.mark.skipif(not COUNT, reason="takes seconds")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_decoded_within_the_limits(tmp_path, name):
    path = tmp_path / name
    assert attempt(lambda: path.write_bytes(BOMBS[name]()) * 0).code == 0  # in a copy: it takes memory
    decode("bombs", path)


def decode(kind, path):
    """Read an image as `gaussad extract` does, and print an error as it does."""

    def read():
        try:
            square = read_squares(path, [224]).by_size[224]
        except ImageError as error:
            print(f"{ERROR}{error}", file=sys.stderr)
            return REFUSED
        assert (square.shape, square.dtype) == ((224, 224, 3), np.uint8)
        return 0

    ended = run(read, MIB_OF_AN_IMAGE)
    assert ended.code == 0 or path.name in ended.err
    tally(kind, "refused" if ended.code else "decoded", ended)


# --- cache and results ---


class Cache:
    """A category's features, spectra and results, made once without a network; each case damages a copy."""

    def __init__(self, root):
        self.base, self.work = root / "base", root / "work"
        recipe, generator = store.Recipe("efficientnet-lite0", 9, "none", "0" * 64, "tf", 224), np.random.default_rng(0)
        for split, labels in (("train", ["good"] * 8), ("test", ["good"] * 3 + ["bad"] * 3)):
            images = tuple(
                store.ImageEntry(f"{split}/{label}/{i}.png", label, f"{i:064x}") for i, label in enumerate(labels)
            )
            folder = store.split_folder(self.base / "cache", "tiny", recipe, "knob", split)
            features = {level: generator.standard_normal((len(labels), 5), dtype=np.float32) for level in (1, 2)}
            store.write_features(folder, store.Manifest("tiny", "knob", split, recipe, images, {}), features)
        self.category = folder.parent.relative_to(self.base)
        shutil.copytree(self.base, self.work)
        import_what_it_imports(self.evaluate(self.work))
        assert attempt(gaussad("fit", *LITE0, "--cache", self.base / "cache")).code == 0
        assert attempt(self.evaluate(self.base)).code == 0
        self.expected = (self.base / RESULTS / "metrics.csv").read_bytes()

    def evaluate(self, at):
        where = ("--cache", at / "cache", "--out", at / "results")
        return gaussad("evaluate", *LITE0, "--mode", "all", "--levels", "1", *where)

    def copy(self, *without):
        """Return a category in a sound copy of everything."""
        shutil.rmtree(self.work)
        shutil.copytree(self.base, self.work)
        for name in without:
            shutil.rmtree(self.work / name)
        return self.work / self.category

    def judge(self, kind, made_anew):
        """Evaluate damaged files: results are the right ones, if any, unless the files pass as made anew."""
        ended = run(self.evaluate(self.work))
        how = "refused" if ended.code else "correct"
        if not ended.code and (self.work / RESULTS / "metrics.csv").read_bytes() != self.expected:
            assert made_anew, "took damaged files for sound ones: other results"
            how = "taken as made anew"
        tally(kind, how, ended)
        if made_anew:
            shutil.rmtree(self.work / "results", ignore_errors=True)  # rows of a category of another name may stay

    def mend(self, folder):
        """Put the sound files of a folder back: a clean run gives the same bytes."""
        shutil.copytree(self.base / folder, self.work / folder, dirs_exist_ok=True)
        ended = run(self.evaluate(self.work))
        assert ended.code == 0, ended.err
        assert (self.work / RESULTS / "metrics.csv").read_bytes() == self.expected


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


def seal(path):
    """Make a manifest's digest right again, if it is JSON still; whether it is."""
    with suppress(ValueError, AttributeError, RecursionError):
        path.write_text(json.dumps(store.sealed(json.loads(path.read_bytes()))), "utf-8")
        return True
    return False


@cases(3)
def test_a_damaged_manifest(cache, data):
    """Damage the bytes, or any values with the digest made right again or not."""
    split = data.draw(st.sampled_from(("train", "test")))
    path = cache.copy("results") / split / store.MANIFEST
    content = path.read_bytes()
    path.write_bytes(data.draw(damaged_text(content, JSON) | damaged(content, [b"{}", b"[]", b"null", b'"\xff"'])))
    sealed = data.draw(st.booleans()) and seal(path)
    cache.judge("manifests", sealed)
    cache.mend(cache.category / split)


@cases(2)
def test_a_damaged_array(cache, data):
    """Damage the header above all, or write another, with the hash in the manifest made right again or not."""
    split = data.draw(st.sampled_from(("train", "test")))
    folder = cache.copy("results", cache.category / "spectra") / split
    path, sealed = folder / "level_1.npy", data.draw(st.booleans())
    content, sha256 = path.read_bytes(), sha256_of(path)
    place = data.draw(st.sampled_from((128, 128, len(content))))
    header = damaged_text(content[:127].rstrip(), NPY, encoding="latin-1").map(lambda new: new.ljust(127)[:127] + b"\n")
    path.write_bytes(data.draw(header | damaged(content[:place], [b"PK\3\4", content])) + content[place:])
    if sealed:
        manifest = folder / store.MANIFEST
        manifest.write_text(manifest.read_text("utf-8").replace(sha256, sha256_of(path)), "utf-8")
        assert seal(manifest)
    cache.judge("arrays", sealed)
    cache.mend(cache.category / split)


def other_arrays(values):
    numbers = np.asarray(values, dtype=np.float64)
    yield from (numbers * np.nan, numbers * np.inf, -numbers, 0 * numbers, numbers.astype(complex), numbers[..., None])
    yield from (numbers.reshape(-1)[:1], np.zeros((3000, 3000)))
    yield from map(np.array, ([], "x", -5, 2**62))


@cases(1)
def test_damaged_spectra(cache, data):
    """Damage the bytes, or one of the arrays in a sound file, with the digest made right again or not."""
    path, other = cache.copy("results") / "spectra" / "level_1.npz", data.draw(st.booleans())
    sealed = other and data.draw(st.booleans())
    if other:
        with np.load(path, allow_pickle=False) as file:
            content = dict(file)
        name = data.draw(st.sampled_from(sorted(content.keys() - {"source", "digest"})))
        content[name] = data.draw(st.sampled_from(list(other_arrays(content[name]))))
        if sealed:
            del content["digest"]
            store.write_arrays(path, content)
        else:
            data.draw(st.sampled_from((np.savez, np.savez_compressed)))(path, **content)
    else:
        path.write_bytes(data.draw(damaged(path.read_bytes(), [b"PK\3\4", b"\x93NUMPY"])))
    cache.judge("spectra", sealed)
    cache.mend(cache.category / "spectra")


@cases(3)
def test_damaged_results(cache, data):
    """Damage bytes, cells or values of a results file; then `tables`, `evaluate` or `compare` reads it."""
    cache.copy()
    path = data.draw(st.sampled_from(sorted(path for path in (cache.work / RESULTS).rglob("*") if path.is_file())))
    content = path.read_bytes()
    values = damaged_text(content, JSON)
    if path.suffix == ".csv":
        values = damaged_text(content, CSV, r",\n") | without_a_column(content)
    path.write_bytes(data.draw(values | damaged(content, [b"\xff\xfe", b"\0" * 9, content])))
    compare = gaussad("compare", cache.base / "results", cache.work / "results")
    tables = gaussad("tables", "--results", cache.work / "results")
    ended = run(data.draw(st.sampled_from((compare, tables, cache.evaluate(cache.work)))))
    tally("results", "refused" if ended.code else "read", ended)
    cache.mend(path.parent.relative_to(cache.work))


# --- settings and models ---


def read_settings(source, path):
    """Return the job that reads an experiment or augmentation rules; the data set that they are for is missing."""
    missing = ("--data", path.with_name("missing"))
    if source.parent == ROOT / "configs":
        return gaussad("run", "--config", path, *missing)
    return gaussad("augment-preview", "--augmentation", path, *missing)


@pytest.fixture(scope="module")
def imported():
    for source in (SETTINGS[0], SETTINGS[-1]):
        import_what_it_imports(read_settings(source, source), REFUSED)


@cases(3)
def test_damaged_settings(imported, tmp_path, data):
    source, path = data.draw(st.sampled_from(SETTINGS)), tmp_path / "settings.yaml"
    text = source.read_bytes()
    path.write_bytes(data.draw(damaged_text(text, YAML, r"\n:") | damaged(text, [b"\xff\xfe", b"&a [*a]", text])))
    ended = run(read_settings(source, path))
    tally("settings", "taken" if "no such folder" in ended.err else "refused", ended)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "sound.gaussad"
    write_model(path, tiny_model())
    import_what_it_imports(gaussad("predict", path, path.parent), REFUSED)
    return path.read_bytes()


@cases(2)
def test_a_damaged_model(model, tmp_path, data):
    """Every value under a right digest is in tests/detector/test_container.py."""
    path = tmp_path / "damaged.gaussad"
    path.write_bytes(data.draw(damaged(model, [b"{}", b"PK\3\4", model])))
    ended = run(gaussad("predict", path, tmp_path))
    assert path.read_bytes() == model or path.name in ended.err
    tally("models", "refused" if path.name in ended.err else "the same", ended)
