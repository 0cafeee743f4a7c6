"""Every level equals that of the original implementation with the same weights (scripts/parity.py)."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from gaussad_cli.backbones.network import normalise
from gaussad_cli.backbones.registry import BACKBONES
from scripts import parity

SLOW = {"efficientnet-b5", "efficientnet-b6", "efficientnet-b7"}


def compared(case: parity.Case) -> parity.Parity:
    if not parity.is_installed(case.original):
        pytest.skip(f"needs {case.original}: python scripts/parity.py --install (make test does it)")
    return parity.compare(case)


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=str(c), marks=pytest.mark.slow if c.backbone.name in SLOW else ()) for c in parity.cases()],
)
def test_every_level_equals_the_originals(case):
    found = compared(case)
    assert found.map_sizes == found.original_map_sizes
    assert len(found.errors) == case.backbone.n_levels
    assert max(found.errors) < parity.TOLERANCE


def test_every_backbone_and_padding_has_an_original():
    assert {(case.backbone.name, case.padding) for case in parity.cases()} == {
        (backbone.name, padding) for backbone in BACKBONES.values() for padding in backbone.paddings
    }


@pytest.mark.parametrize(("padding", "original"), [("tf", parity.PACKAGES[0]), ("paper", parity.PACKAGES[1])])
def test_the_wrong_padding_is_told_apart(padding, original):
    found = compared(parity.Case(BACKBONES["efficientnet-b1"], padding, original))
    assert [error < parity.TOLERANCE for error in found.errors] == [True] * 6 + [False] * 3


def test_another_weight_is_told_apart(monkeypatch):
    drawn = parity.draw

    def changed(case):
        original, checkpoint = drawn(case)
        tensors = {**checkpoint.tensors, "layer4.1.bn2.bias": checkpoint.tensors["layer4.1.bn2.bias"] + 0.01}
        return original, replace(checkpoint, given=tensors)

    monkeypatch.setattr(parity, "draw", changed)
    found = parity.compare(parity.Case(BACKBONES["resnet-18"], "native", "torchvision"))
    assert [error < parity.TOLERANCE for error in found.errors] == [True] * 4 + [False]


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-lite0"])
def test_normalisation_is_the_float_formula_to_the_bit(name):
    backbone = BACKBONES[name]
    image = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=2)
    mean, std = np.array(backbone.mean, np.float32), np.array(backbone.std, np.float32)
    expected = (image.astype(np.float32) / np.float32(255) - mean) / std
    ours = normalise(torch.from_numpy(image)[None], backbone)[0].permute(1, 2, 0).numpy()
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, expected)


def test_real_images_are_opencvs_bilinear_on_bytes_to_the_bit(mvtec):
    """RGB and gray files decoded by OpenCV itself, resized to B4's square."""
    from gaussad_cli.extraction.decode import read_squares

    for path in (mvtec / "bottle/test/good", mvtec / "screw/test/good"):
        first = sorted(path.iterdir())[0]
        decoded = cv2.cvtColor(cv2.imread(str(first), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        expected = cv2.resize(decoded, (380, 380), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(read_squares(first, [380]).by_size[380], expected)
