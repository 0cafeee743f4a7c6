"""Model files: what is written is read, and whatever else a file holds is a clear error."""

import json
import random

import numpy as np
import pytest
from safetensors.numpy import load, save

from gaussad_cli.detector.container import _ARRAYS, _describe, _digest, _metadata, _model, read_model, write_model
from gaussad_cli.detector.update import update
from gaussad_cli.errors import UserError
from gaussad_cli.gaussian.compression import Compression
from tests.detector.tiny_network import features, pictures, tiny_model


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
    """A file that was changed by somebody who knows the format, digest and all."""
    described, arrays = json.loads(_metadata(content)["gaussad"]), load(content)
    change(described, arrays)
    text = json.dumps(described)
    return save(arrays, {"gaussad": text, "sha256": _digest(text, arrays)})


CHANGES = {
    "a later version": lambda d, _: d.update(schema=2),
    "no backbone": lambda d, _: d.pop("backbone"),
    "another field": lambda d, _: d["backbone"].update(evil="1"),
    "no levels": lambda d, _: d.update(levels=[]),
    "a level twice": lambda d, _: d["levels"].append(d["levels"][0]),
    "components out of range": lambda d, _: d["levels"][0]["shrinkage"].update(stop=99),
    "text for a number": lambda d, _: d["levels"][0].update(fourth="many"),
    "float32": lambda _, a: a.update({"1.mean": a["1.mean"].astype(np.float32)}),
    "another shape": lambda _, a: a.update({"1.mean": a["1.mean"][:-1]}),
    "NaN": lambda _, a: a.update({"1.mean": a["1.mean"] * np.nan}),
    "no calibration": lambda _, a: a.update(calibration=np.zeros(0)),
    "an infinite rate": lambda d, _: d["calibration"].update(fpr=float("inf")),
    "a threshold that is no number": lambda d, _: d["calibration"].update(threshold=float("nan")),
    "a calibration out of order": lambda _, a: a.update(calibration=a["calibration"][::-1].copy()),
    "more components than images": lambda d, _: d["levels"][0].update(n=3),
    "a negative eigenvalue": lambda _, a: a.update({"1.eigenvalues": -a["1.eigenvalues"]}),
    "an unknown mode": lambda d, _: d["levels"][0].update(compression={"mode": "best", "var": 0.5}),
    "a network without a name": lambda d, _: d["backbone"].update(name=None),
    "hashes of another form": lambda _, a: a.update(hashes=np.zeros(3)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_was_made_by_somebody_else_is_a_clear_error(tmp_path, content, change):
    with pytest.raises(UserError) as caught:
        read(tmp_path, rewritten(content, CHANGES[change]))
    assert ("version 2" in str(caught.value)) == (change == "a later version")


HOSTILE = (None, True, -1, 0, 0.5, 1e308, 10**400, float("nan"), float("inf"), "", "x", [], {}, [[]], -(10**30), 2**63)


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def test_a_header_with_any_one_value_hostile_is_refused_or_means_a_number():
    """Whoever writes a file on purpose gets the digest right: only what is looked at keeps tracebacks and NaN away."""
    model = tiny_model(levels=(1,))
    described = json.loads(json.dumps({**_describe(model), "provenance": {"updates": 0}}))
    arrays = {f"1.{name}": vars(model.levels[0].spectrum).get(name, model.levels[0].third) for name in _ARRAYS}
    arrays |= {"calibration": model.calibration.distances, "hashes": np.zeros((0, 8), np.uint8)}
    seen, refused = features(pictures(3), levels=(1,)), 0
    assert _model(described, arrays).score(seen).tolist() == model.score(seen).tolist()
    for path in places(described):
        for value in HOSTILE:
            try:
                read = _model(json.loads(json.dumps(replaced(described, path, value))), arrays)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError):  # what read_model makes clear
                refused += 1
                continue
            if path[:1] == ("backbone",):  # the values are held against the registry's later
                assert isinstance(read.backbone.name, str), (path, value)
            elif path[:1] in (("levels",), ("calibration",), ("provenance",)):
                updated = update(read, seen, ("ab" * 8,) * 3)
                assert np.isfinite([*read.score(seen), *updated.score(seen)]).all(), (path, value)
    assert refused > 400


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(UserError, match="cannot read the model"):
        read_model(tmp_path / "nowhere.gaussad")
