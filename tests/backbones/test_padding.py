"""The paper's padding is there, or it is an error: never silently another."""

import pytest
import torch
from torch import nn

from gaussad_cli.backbones import padding
from gaussad_cli.backbones.network import create_model
from gaussad_cli.backbones.registry import find_backbone


@pytest.fixture
def b0():
    with torch.device("meta"):
        return create_model(find_backbone("efficientnet-b0"))


def test_a_timm_that_builds_the_network_of_other_modules_is_an_error(b0, monkeypatch):
    monkeypatch.setattr(padding, "Conv2dSame", type("Renamed", (nn.Conv2d,), {}))
    with pytest.raises(RuntimeError, match="0 convolutions of the network pad by their input's size"):
        padding.use_paper_padding(b0, 224)


def test_a_timm_that_builds_one_layer_otherwise_is_an_error_and_leaves_the_others_as_they_were(b0):
    b0.conv_stem = nn.Conv2d(3, 32, 3, stride=2)
    with pytest.raises(RuntimeError, match="4 convolutions"):
        padding.use_paper_padding(b0, 224)
    assert sum(isinstance(module, padding.Conv2dSame) for module in b0.modules()) == 4
