"""`gaussad info`: the numbers against counts by hand and against the networks themselves."""

import pytest
import torch
from torch import nn

from gaussad_cli.backbones import available, info
from gaussad_cli.backbones.info import count_parameters, measure_shape
from gaussad_cli.backbones.network import create_model, tap_levels
from gaussad_cli.backbones.registry import BACKBONES, find_backbone
from gaussad_cli.backbones.weights import read_checkpoint


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


@pytest.mark.parametrize(
    ("name", "model"), [("resnet-18", "timm:resnet18"), ("efficientnet-b0", "timm:tf_efficientnet_b0")]
)
def test_parameters_of_a_timm_model_are_without_the_classifier_too(gaussad, name, model):
    ours, theirs = find_backbone(name), find_backbone(model)
    network = create_model(ours)
    whole, classifier = (sum(p.numel() for p in n.parameters()) for n in (network, network.get_classifier()))
    assert count_parameters(ours) == count_parameters(theirs) == whole - classifier
    line = f"parameters     {count_parameters(ours) / 1e6:.2f} M in all levels, without the classifier"
    assert line in gaussad("info", name).out
    assert line in gaussad("info", model).out


def test_info_alone_lists_every_backbone(gaussad):
    listed = gaussad("info").out
    assert all(name in listed for name in BACKBONES)


def test_info_says_which_weights_are_on_this_machine(gaussad, monkeypatch, tmp_path):
    monkeypatch.setattr(available, "_cached", lambda b: tmp_path / "b4" if b.name == "efficientnet-b4" else None)
    monkeypatch.setattr(available, "_installed", lambda b: None)
    assert gaussad("info").out.endswith("Backbones whose weights are on this machine: efficientnet-b4.\n")
    assert f"on the model hub; {tmp_path / 'b4'}" in gaussad("info", "efficientnet-b4").out
    assert "on the model hub; not on this machine" in gaussad("info", "resnet-18").out


@pytest.fixture(scope="module")
def built():
    """Models on the meta device by name: a weight file is held against every backbone, which takes seconds to build."""
    return {}


@pytest.fixture
def built_once(monkeypatch, built):
    def create(backbone):
        if backbone.name not in built:
            built[backbone.name] = create_model(backbone)
        return built[backbone.name]

    monkeypatch.setattr(info, "create_model", create)


def test_info_on_the_real_weight_files_says_what_they_serve_and_lack(gaussad, built_once, weights):
    b4 = gaussad("info", "--weights", weights / "efficientnet-b4-levels1-7.pth").out
    assert "efficientnet-b4, levels 1-7; lacks _blocks.31._expand_conv.weight, _blocks.31._project_conv.weight" in b4
    assert "efficientnet_pytorch's names" in b4
    assert b4.count("serves") == 1
    resnet = gaussad("info", "--weights", weights / "resnet18-levels1-4.pth").out
    assert "serves         resnet-18, levels 1-4; lacks layer4.0.conv1.weight" in resnet
    assert resnet.count("serves") == 1


def test_info_on_b4_without_its_stem_still_knows_it(gaussad, built_once, weights, tmp_path):
    tensors = dict(read_checkpoint(weights / "efficientnet-b4-levels1-7.pth", "b4").tensors)
    del tensors["_conv_stem.weight"]
    torch.save({f"module.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "b4.pth")
    told = gaussad("info", "--weights", tmp_path / "b4.pth").out
    assert "efficientnet_pytorch's names" in told
    assert "serves         no level of efficientnet-b4; lacks _conv_stem.weight, _blocks.31._expand_conv.weight" in told
    assert told.count("serves") == 1


def test_info_on_a_file_under_timms_names_without_its_stem_still_knows_it(gaussad, built_once, tmp_path):
    tensors = create_model(find_backbone("resnet-18")).state_dict()
    del tensors["conv1.weight"]
    torch.save(tensors, tmp_path / "cut.pth")
    told = gaussad("info", "--weights", tmp_path / "cut.pth").out
    assert "timm's or torchvision's names" in told
    assert "serves         no level of resnet-18; lacks conv1.weight" in told
    assert told.count("serves") == 1


def test_info_on_a_file_with_little_of_any_network_names_none(gaussad, built_once, tmp_path):
    tensors = create_model(find_backbone("resnet-18")).state_dict()
    torch.save({name: tensors[name] for name in ("bn1.weight", "fc.weight")}, tmp_path / "two.pth")
    assert "serves         not any backbone" in gaussad("info", "--weights", tmp_path / "two.pth").out


def test_info_on_a_published_file_says_that_it_is_what_its_name_says(gaussad, built_once):
    from gaussad_cli.backbones.weights import find_checkpoint

    path = find_checkpoint(find_backbone("efficientnet-lite0"), None).path
    told = gaussad("info", "--weights", path).out
    assert "(as its name says)" in told
    assert "serves         efficientnet-lite0, levels 1-9; lacks nothing" in told
    assert "serves         not efficientnet-b4" in gaussad("info", "efficientnet-b4", "--weights", path).out


def test_info_on_a_file_with_a_false_name_is_an_error_unless_told_to_go_on(gaussad, built_once, tmp_path):
    path = tmp_path / "resnet18-f37072fd.pth"
    torch.save(create_model(find_backbone("resnet-18")).state_dict(), path)
    refused = gaussad("info", "--weights", path)
    assert refused.code == 2
    assert "--no-verify" in refused.err
    told = gaussad("info", "--weights", path, "--no-verify").out
    assert "(its name says f37072fd...)" in told
    assert "serves         resnet-18, levels 1-5; lacks nothing" in told
