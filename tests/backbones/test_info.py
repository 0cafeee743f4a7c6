"""`gaussad info`: the numbers against counts by hand and against the networks themselves."""

import pytest
import torch
from torch import nn

from gaussad_cli.backbones.info import measure_shape
from gaussad_cli.backbones.network import create_model, tap_levels
from gaussad_cli.backbones.registry import BACKBONES, find_backbone


def test_multiply_adds_are_those_of_the_convolutions():
    """ResNet-18 has no other products: output pixels x kernel area x input channels x output channels, each counted."""
    backbone, counts = find_backbone("resnet-18"), []

    def count(module, inputs, output):
        height, width = module.kernel_size
        counts.append(output[0].numel() * height * width * module.in_channels // module.groups)

    with torch.device("meta"):
        network = tap_levels(create_model(backbone), backbone, "native", range(1, 6))
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        network(torch.empty(1, 3, 224, 224))
    assert measure_shape(backbone, "native").multiply_adds[-1] == sum(counts)


@pytest.mark.parametrize("name", ["efficientnet-b0", "resnet-18", "timm:test_convnext"])
def test_cost_grows_from_level_to_level(name):
    backbone = find_backbone(name)
    costs = measure_shape(backbone, backbone.paddings[0]).multiply_adds
    assert len(costs) == backbone.n_levels
    assert list(costs) == sorted(set(costs))


def test_info_on_a_backbone_tells_levels_maps_cost_and_weights(gaussad):
    done = gaussad("info", "efficientnet-b4")
    assert done.code == 0, done.err
    for part in ("380 x 380", "timm/tf_efficientnet_b4.aa_in1k", "efficientnet-b4-6ed6700e.pth", "17.55 M"):
        assert part in done.out
    level7 = next(line.split() for line in done.out.splitlines() if line.split()[:1] == ["7"])
    assert " ".join(level7).startswith("7 272 11 x 11 12 x 12")


def test_info_alone_lists_every_backbone(gaussad):
    listed = gaussad("info").out
    assert all(name in listed for name in BACKBONES)


def test_info_on_the_real_weight_files_says_what_they_serve_and_lack(gaussad, weights):
    b4 = gaussad("info", "--weights", weights / "efficientnet-b4-levels1-7.pth").out
    assert "serves         efficientnet-b4, levels 1-7; lacks blocks.6.1.conv_pw.weight, blocks.6.1.conv_pwl" in b4
    assert "efficientnet_pytorch's names" in b4
    assert b4.count("serves") == 1
    resnet = gaussad("info", "--weights", weights / "resnet18-levels1-4.pth").out
    assert "serves         resnet-18, levels 1-4; lacks layer4.0.conv1.weight" in resnet
    assert resnet.count("serves") == 1


def test_info_on_a_published_file_says_that_it_is_what_its_name_says(gaussad):
    from gaussad_cli.backbones.weights import find_checkpoint

    path = find_checkpoint(find_backbone("efficientnet-lite0"), None).path
    told = gaussad("info", "--weights", path).out
    assert "(as its name says)" in told
    assert "serves         efficientnet-lite0, levels 1-9; lacks nothing" in told
    assert "serves         not efficientnet-b4" in gaussad("info", "efficientnet-b4", "--weights", path).out


def test_info_on_a_file_with_a_false_name_is_an_error_unless_told_to_go_on(gaussad, tmp_path):
    path = tmp_path / "resnet18-f37072fd.pth"
    torch.save(create_model(find_backbone("resnet-18")).state_dict(), path)
    refused = gaussad("info", "--weights", path)
    assert refused.code == 2
    assert "--no-verify" in refused.err
    told = gaussad("info", "--weights", path, "--no-verify").out
    assert "(its name says f37072fd...)" in told
    assert "serves         resnet-18, levels 1-5; lacks nothing" in told
