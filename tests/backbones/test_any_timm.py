"""Backbones named timm:<model>: a modern convolutional network and a transformer, with random weights."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gaussad_cli.backbones.network import create_model, tap_levels
from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.results import read_metrics
from tests.conftest import assert_user_error


@pytest.mark.parametrize(
    ("name", "size", "mean", "dims"),
    [
        ("timm:convnext_atto", 224, (0.485, 0.456, 0.406), (40, 80, 160, 320)),
        ("timm:vit_tiny_patch16_224", 224, (0.5, 0.5, 0.5), (192,) * 12),
        ("timm:test_vit.r160_in1k", 160, (0.5, 0.5, 0.5), (64,) * 6),
    ],
)
def test_size_normalisation_and_levels_are_the_models_own(name, size, mean, dims):
    backbone = find_backbone(name)
    assert (backbone.input_size, backbone.mean, backbone.dims) == (size, mean, dims)
    network = tap_levels(create_model(backbone), backbone, "native", range(1, len(dims) + 1))
    with torch.inference_mode():
        assert [tuple(level.shape) for level in network(torch.rand(2, 3, size, size))] == [(2, dim) for dim in dims]


def test_a_level_is_the_same_alone_and_among_others():
    backbone = find_backbone("timm:test_vit")
    model = create_model(backbone)
    images = torch.rand(1, 3, backbone.input_size, backbone.input_size)
    with torch.inference_mode():
        every = tap_levels(model, backbone, "native", range(1, 7))(images)
        (alone,) = tap_levels(model, backbone, "native", (3,))(images)
    torch.testing.assert_close(alone, every[2], rtol=0, atol=0)


def test_levels_of_a_convnext_are_the_means_of_its_stages():
    backbone = find_backbone("timm:test_convnext")
    model = create_model(backbone)
    x = images = torch.rand(1, 3, backbone.input_size, backbone.input_size)
    with torch.inference_mode():
        x = model.stem(x)
        expected = [(x := stage(x)).mean(dim=(2, 3)) for stage in model.stages]
        ours = tap_levels(model, backbone, "native", range(1, 5))(images)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)  # the mean in another order


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:convnxt_atto", "Did you mean convnext_atto"),
        ("timm:", "timm has no model ''"),
        ("timm:convnext_atto.mine", r"no weights 'convnext_atto.mine'. Known: convnext_atto.d2_in1k"),
    ],
)
def test_a_model_that_timm_does_not_have_is_an_error(name, message):
    with pytest.raises(UserError, match=message):
        find_backbone(name)


@pytest.mark.parametrize("model", [pytest.param("test_convnext", marks=pytest.mark.slow), "test_vit"])
def test_the_main_job_by_another_timm_model(gaussad, tiny, tmp_path, model):
    torch.manual_seed(0)
    tensors = create_model(find_backbone(f"timm:{model}")).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "w.safetensors")
    options = ("--backbone", f"timm:{model}", "--levels", "2-3")
    done = gaussad("run", "--data", tiny, *options, "--weights", tmp_path / "w.safetensors", "--table", "1")
    assert done.code == 0, done.err
    assert f"timm:{model} (w@" in done.out
    metrics = read_metrics(tmp_path / "results", "tiny")
    assert set(metrics["backbone"]) == {f"timm:{model}"}
    assert np.isfinite(metrics.loc[metrics["score"] == "mahalanobis", "auroc"]).all()
    assert gaussad("evaluate", *options, "--mode", "npca").code == 0
    assert gaussad("tables", *options[:2]).code == 0


def test_a_file_that_lacks_any_of_its_tensors_but_the_classifiers_is_an_error(gaussad, tiny, tmp_path):
    model = create_model(find_backbone("timm:test_convnext"))
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    headless = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.fc")}
    save_file(headless, tmp_path / "headless.safetensors")
    extract = ("extract", "--data", tiny, "--backbone", "timm:test_convnext", "--weights")
    assert gaussad(*extract, tmp_path / "headless.safetensors").code == 0
    headless.pop("stem.0.weight")
    save_file(headless, tmp_path / "cut.safetensors")
    assert_user_error(gaussad(*extract, tmp_path / "cut.safetensors"), "lacks 1 tensors", "stem.0.weight")
