"""Files of the cache whose digests are right and whose values are not."""

import dataclasses
import json

import numpy as np
import pytest

from gaussad_cli.errors import UserError
from gaussad_cli.extraction import store
from gaussad_cli.files import sha256_of

RECIPE = store.Recipe("toy", 2, "none", "0" * 64, "native", 16)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("recipe/epochs", "3"),
        ("recipe/backbone", {}),
        ("images/0/label", None),
        ("images/0/name", "\ud800"),
        ("versions", 3),
    ],
)
def test_a_manifest_with_a_value_of_another_type_is_refused_though_its_digest_is_right(tmp_path, where, value):
    manifest = store.Manifest("tiny", "knob", "train", RECIPE, (store.ImageEntry("a.png", "good", "0" * 64),), {})
    folder = store.split_folder(tmp_path, "tiny", RECIPE, "knob", "train")
    store.write_features(folder, manifest, {})
    path = folder / store.MANIFEST
    content = json.loads(path.read_text())
    *parents, last = where.split("/")
    holder = content
    for name in parents:
        holder = holder[int(name) if name.isdecimal() else name]
    holder[last] = value
    path.write_text(json.dumps(store.sealed(content)))
    with pytest.raises(UserError, match="cannot read"):
        store.read_manifest(folder)


def test_an_array_whose_header_numpy_fails_on_is_refused(tmp_path):
    manifest = store.Manifest("tiny", "knob", "train", RECIPE, (store.ImageEntry("a.png", "good", "0" * 64),), {})
    manifest = store.write_features(tmp_path, manifest, {1: np.zeros((1, 3), np.float32)})
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3L), " + "(" * 40
    (tmp_path / "level_1.npy").write_bytes(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode())
    entry = store.LevelEntry("level_1.npy", (1, 3), "float32", sha256_of(tmp_path / "level_1.npy"))
    with pytest.raises(UserError, match="not an array of numbers"):
        store.read_features(tmp_path, dataclasses.replace(manifest, levels={1: entry}), 1)
