"""Model files: what is written is read, and whatever else a file holds is a clear error."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from gaussad_cli.detector.container import _metadata, read_model, write_model
from gaussad_cli.errors import UserError
from gaussad_cli.extraction.store import digest_arrays
from gaussad_cli.gaussian.compression import Compression
from tests.detector.tiny_network import GRID, features, pictures, tiny_model, tiny_places_model


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.gaussad"
    write_model(path, tiny_model())
    return path.read_bytes()


def read(tmp_path, content):
    path = tmp_path / "m.gaussad"
    path.write_bytes(content)
    return read_model(path)


@pytest.mark.parametrize("compression", [Compression("all", None), Compression("npca", 0.1)], ids=lambda c: c.mode)
def test_what_was_written_is_read_and_scores_to_the_bit(tmp_path, compression):
    model = tiny_model(compression=compression)
    write_model(tmp_path / "m.gaussad", model)
    again = read_model(tmp_path / "m.gaussad")
    assert again.backbone == model.backbone
    assert again.calibration.threshold == model.calibration.threshold
    seen = features(pictures(5, seed=3))
    np.testing.assert_array_equal(again.score(seen), model.score(seen))
    np.testing.assert_array_equal(again.calibration.distances, model.calibration.distances)


@pytest.mark.parametrize("compression", [Compression("all", None), Compression("npca", 0.1)], ids=lambda c: c.mode)
def test_a_model_of_places_is_read_and_scores_to_the_bit(tmp_path, compression):
    model = tiny_places_model(compression=compression)
    write_model(tmp_path / "m.gaussad", model)
    again = read_model(tmp_path / "m.gaussad")
    assert (again.backbone, again.hashes) == (model.backbone, model.hashes)
    for name in ("dims", "compression", "sigma", "typical", "n", "grid"):
        assert getattr(again.places, name) == getattr(model.places, name)
    seen = features(pictures(5, seed=3), grid=GRID)
    np.testing.assert_array_equal(again.places.heat_maps(seen), model.places.heat_maps(seen))
    assert again.calibration.threshold == model.calibration.threshold
    np.testing.assert_array_equal(again.calibration.distances, model.calibration.distances)


def test_the_network_in_a_model_is_kept_byte_for_byte(tmp_path):
    write_model(tmp_path / "m.gaussad", replace(tiny_model(), network=bytes(range(256))))
    assert read_model(tmp_path / "m.gaussad").network == bytes(range(256))


def test_a_model_file_of_places_holds_triangles_in_half_precision(tmp_path):
    model = tiny_places_model()
    write_model(tmp_path / "m.gaussad", model)
    kept, dim = model.places.gaussians.basis.shape[1], sum(model.places.dims.values())
    arrays = 2 * GRID**2 * kept * (kept + 1) // 2 + 4 * dim * (GRID**2 + kept) + 8 * 2 * model.n
    assert arrays < (tmp_path / "m.gaussad").stat().st_size < arrays + 3000


def mutations(content):
    rng = random.Random(0)
    for _ in range(300):  # a flipped bit, anywhere
        place = rng.randrange(len(content))
        yield content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
    for _ in range(100):
        yield content[: rng.randrange(len(content))]
    for _ in range(60):
        yield content + rng.randbytes(rng.randrange(1, 50))
    header = int.from_bytes(content[:8], "little")
    for length in (0, 1, 7, header + 1, 2**31, 2**63, 2**64 - 1):
        yield length.to_bytes(8, "little") + content[8:]
    for text in ("{}", "[]", '{"__metadata__": 3}', '{"__metadata__": {"gaussad": "{}", "sha256": ""}}', "[" * 50000):
        yield len(text).to_bytes(8, "little") + text.encode()
    for _ in range(40):
        yield rng.randbytes(rng.randrange(200))


def test_five_hundred_damaged_files_are_clear_errors(tmp_path, content):
    tried = 0
    for mutated in mutations(content):
        with pytest.raises(UserError) as caught:
            read(tmp_path, mutated)
        assert "m.gaussad" in str(caught.value)
        assert len(str(caught.value)) < 500
        tried += 1
    assert tried >= 500


def rewritten(content, change):
    """A file with a change and a digest that matches it, as a faulty writer would make it."""
    described, arrays = json.loads(_metadata(content)["gaussad"]), load(content)
    change(described, arrays)
    text = json.dumps(described)
    return save(arrays, {"gaussad": text, "sha256": digest_arrays(arrays, text)})


CHANGES = {
    "a later version": lambda d, _: d.update(schema=5),
    "no backbone": lambda d, _: d.pop("backbone"),
    "an unknown field": lambda d, _: d["backbone"].update(colour="1"),
    "no levels": lambda d, _: d.update(levels=[]),
    "a level without arrays": lambda d, _: d["levels"][0].update(level=7),
    "no spectrum": lambda _, a: a.pop("1.eigenvalues"),
    "float32": lambda _, a: a.update({"1.mean": a["1.mean"].astype(np.float32)}),
    "another shape": lambda _, a: a.update({"1.mean": a["1.mean"][:-1]}),
    "NaN": lambda _, a: a.update({"1.mean": a["1.mean"] * np.nan}),
    "an infinite distance": lambda _, a: a.update(calibration=a["calibration"] + np.inf),
    "an infinite rate": lambda d, _: d["calibration"].update(fpr=float("inf")),
    "a NaN threshold": lambda d, _: d["calibration"].update(threshold=float("nan")),
    "hashes of another form": lambda _, a: a.update(hashes=np.zeros(3)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_of_another_form_is_a_clear_error(tmp_path, content, change):
    with pytest.raises(UserError) as caught:
        read(tmp_path, rewritten(content, CHANGES[change]))
    assert ("version 5" in str(caught.value)) == (change == "a later version")


PLACES_CHANGES = {
    "another grid": lambda d, _: d["backbone"].update(grid=GRID + 1),
    "no places": lambda d, _: d.pop("places"),
    "another level": lambda d, _: d["places"].update(dims=[[1, 6]]),
    "dims that are no pairs": lambda d, _: d["places"].update(dims=[1, 2]),
    "all shrunk": lambda d, _: d["places"].update(intensity=1.0),
    "no images": lambda d, _: d["places"].update(n=0),
    "a text as sigma": lambda d, _: d["places"].update(sigma="0.7"),
    "factors cut": lambda _, a: a.update({"places.factors": a["places.factors"][:, :-1].copy()}),
    "factors in float32": lambda _, a: a.update({"places.factors": a["places.factors"].astype(np.float32)}),
    "infinite factors": lambda _, a: a.update({"places.factors": a["places.factors"] + np.float16(np.inf)}),
    "singular factors": lambda _, a: a.update({"places.factors": 0 * a["places.factors"]}),
    "a flat basis": lambda _, a: a.update({"places.basis": a["places.basis"].ravel()}),
    "NaN in the mean": lambda _, a: a.update({"places.mean": np.float32(np.nan) * a["places.mean"]}),
}


@pytest.mark.parametrize("change", PLACES_CHANGES)
def test_a_file_of_places_of_another_form_is_a_clear_error(tmp_path, change):
    write_model(tmp_path / "m.gaussad", tiny_places_model())
    content = (tmp_path / "m.gaussad").read_bytes()
    with pytest.raises(UserError, match="not a gaussad model, or is damaged"):
        read(tmp_path, rewritten(content, PLACES_CHANGES[change]))


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_files_of_versions_without_places_are_read(tmp_path, content, schema):
    def older(described, arrays):
        described.update(schema=schema)
        described["backbone"].pop("grid")
        for level in (1, 2) if schema == 1 else ():
            arrays.pop(f"{level}.features")

    model, seen = read(tmp_path, rewritten(content, older)), features(pictures(5, seed=3))
    np.testing.assert_array_equal(model.score(seen), tiny_model().score(seen))
    assert (model.backbone.grid, model.places) == (0, None)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="cannot read the model"):
        read_model(tmp_path / "nowhere.gaussad")


def test_the_same_model_is_the_same_bytes(tmp_path, content):
    """safetensors writes metadata in random order: of 8 files, all were the same once in 128 times."""
    for number in range(8):
        write_model(tmp_path / f"{number}.gaussad", tiny_model())
        assert (tmp_path / f"{number}.gaussad").read_bytes() == content


def test_a_model_with_its_header_in_another_order_is_read(tmp_path, content):
    """As models were written before the order was fixed."""
    metadata = _metadata(content)
    for order in (("gaussad", "sha256"), ("sha256", "gaussad")):
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        header["__metadata__"] = {name: metadata[name] for name in order}
        text = json.dumps(header).encode()
        arrays = content[8 + int.from_bytes(content[:8], "little") :]
        text += b" " * (-len(text) % 8)
        assert read(tmp_path, len(text).to_bytes(8, "little") + text + arrays).levels[0].n == 40


def test_a_model_without_a_finite_threshold_is_not_written(tmp_path):
    model = tiny_model()
    for calibration in (
        replace(model.calibration, threshold=np.inf),
        replace(model.calibration, distances=np.array([1.0, np.inf])),
    ):
        with pytest.raises(UserError, match="nearly all normal images are the same"):
            write_model(tmp_path / "m.gaussad", replace(model, calibration=calibration))
    assert not (tmp_path / "m.gaussad").exists()
