"""Both engines against a plain timm loop, what folding and exporting leave as it was, and what goes together."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gaussad_cli import files
from gaussad_cli.backbones.folding import fold_batch_norm
from gaussad_cli.backbones.network import LevelNetwork, build_network, create_model, normalise, tap_levels
from gaussad_cli.backbones.padding import use_paper_padding
from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.backbones.resolve import NetworkOptions, ResolvedNetwork, resolve
from gaussad_cli.backbones.weights import Checkpoint, find_checkpoint, load_levels
from gaussad_cli.errors import UserError
from gaussad_cli.evaluation.results import read_metrics
from gaussad_cli.extraction import engine as engines
from gaussad_cli.extraction import extract
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.extraction.engine import EngineChoice, build_engine, choose_engine
from gaussad_cli.extraction.graphs import GRAPHS, load_graph
from gaussad_cli.extraction.onnx_engine import OnnxEngine
from gaussad_cli.extraction.onnx_export import export_network
from gaussad_cli.extraction.torch_engine import TorchEngine
from tests.conftest import assert_user_error, write_image
from tests.extraction.toy import ToyEngine

CPU = [EngineChoice("onnx", "cpu", "fp32"), EngineChoice("torch", "cpu", "fp32")]
TOLERANCE = 1e-4


def plain_loop(backbone, padding, levels, checkpoint, squares):
    """What a user would write: the timm model in float32, a hook on each level's last module."""
    model = create_model(backbone)
    load_levels(model, backbone, checkpoint, levels)
    if padding == "paper":
        use_paper_padding(model, backbone.input_size)
    maps = {}
    for level in levels:
        module = model.get_submodule(backbone.level_modules[level - 1][-1])
        module.register_forward_hook(lambda _m, _i, output, level=level: maps.update({level: output}))
    with torch.inference_mode():
        model(normalise(torch.from_numpy(squares), backbone))
    return {level: maps[level].mean(dim=(2, 3)).numpy() for level in levels}


def difference(ours, theirs):
    """Largest over levels of the largest difference over the level's root mean square."""
    return max(float(np.abs(ours[k] - v).max() / np.sqrt(np.square(v).mean())) for k, v in theirs.items())


def squares_of(paths, size):
    return np.stack([read_squares(path, [size]).by_size[size] for path in paths])


@pytest.fixture
def noise(tmp_path):
    return [write_image(tmp_path / f"{seed}.png", seed, size=300) for seed in range(3)]


@pytest.mark.parametrize("choice", CPU, ids=lambda choice: choice.engine)
def test_lite0_equals_the_plain_loop(tmp_path, noise, choice):
    backbone, levels = find_backbone("efficientnet-lite0"), tuple(range(1, 10))
    checkpoint = find_checkpoint(backbone, None)
    engine = build_engine(choice, ResolvedNetwork(backbone, "tf", levels, checkpoint), tmp_path)
    squares = squares_of(noise, 224)
    assert difference(engine.run(squares), plain_loop(backbone, "tf", levels, checkpoint, squares)) < TOLERANCE


@pytest.fixture(scope="module")
def b4_by_the_plain_loop(mvtec, weights):
    backbone, levels = find_backbone("efficientnet-b4"), tuple(range(1, 8))
    checkpoint = find_checkpoint(backbone, weights / "efficientnet-b4-levels1-7.pth")
    paths = [sorted((mvtec / name / "test/good").iterdir())[0] for name in ("bottle", "metal_nut", "screw")]
    squares = squares_of(paths, 380)
    return (backbone, "paper", levels, checkpoint), squares, plain_loop(backbone, "paper", levels, checkpoint, squares)


@pytest.mark.parametrize("choice", CPU, ids=lambda choice: choice.engine)
def test_b4_on_real_images_equals_the_plain_loop(tmp_path, b4_by_the_plain_loop, choice):
    network, squares, expected = b4_by_the_plain_loop
    engine = build_engine(choice, ResolvedNetwork(*network), tmp_path)
    assert difference(engine.run(squares), expected) < TOLERANCE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", TOLERANCE), ("tf32", 0.02), ("bf16", 0.3)])
def test_cuda_equals_the_plain_loop(tmp_path, noise, precision, tolerance):
    backbone, levels = find_backbone("efficientnet-lite0"), tuple(range(1, 10))
    checkpoint = find_checkpoint(backbone, None)
    engine = build_engine(
        EngineChoice("torch", "cuda", precision), ResolvedNetwork(backbone, "tf", levels, checkpoint), tmp_path
    )
    squares = squares_of(noise, 224)
    assert difference(engine.run(squares), plain_loop(backbone, "tf", levels, checkpoint, squares)) < tolerance


def test_bf16_is_near_and_not_the_same(tmp_path, noise):
    backbone = find_backbone("efficientnet-lite0")
    checkpoint = find_checkpoint(backbone, None)
    choice = EngineChoice("torch", "cpu", "bf16")
    network = ResolvedNetwork(backbone, "tf", (7,), checkpoint)
    features = build_engine(choice, network, tmp_path).run(squares_of(noise, 224))
    expected = plain_loop(backbone, "tf", (7,), checkpoint, squares_of(noise, 224))
    assert features[7].dtype == np.float32
    assert TOLERANCE < difference(features, expected) < 0.3


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b1", "efficientnet-lite1", "resnet-18", "resnet-50"])
def test_folding_leaves_no_batch_norm_and_the_same_features(name):
    backbone = find_backbone(name)
    torch.manual_seed(0)
    model = create_model(backbone)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as created they would do nothing
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    network = tap_levels(model, backbone, backbone.paddings[0], range(1, backbone.n_levels + 1))
    images = torch.rand(2, 3, backbone.input_size, backbone.input_size)
    with torch.inference_mode():
        before = network(images)
    fold_batch_norm(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with torch.inference_mode():
        for ours, theirs in zip(network(images), before, strict=True):
            torch.testing.assert_close(
                ours, theirs, rtol=TOLERANCE, atol=TOLERANCE * float(theirs.square().mean()) ** 0.5
            )


# --- places ---


def test_both_engines_give_the_same_places_whose_means_are_the_pooled_features(tmp_path, noise):
    """The maps of levels 3 to 6 have 56, 28, 14 and 14 pixels per side: all ratios to 28 leave the mean as it is."""
    squares, places, pooled = squares_of(noise, 224), {}, {}
    for choice in CPU:
        for grid, found in ((28, places), (0, pooled)):
            network = resolve(NetworkOptions("efficientnet-lite0", "3-6", grid=grid))
            found[choice.engine] = build_engine(choice, network, tmp_path).run(squares)
    assert {level: values.shape for level, values in places["onnx"].items()} == {
        level: (3, 28 * 28 * channels) for level, channels in ((3, 24), (4, 40), (5, 80), (6, 112))
    }
    assert difference(places["onnx"], places["torch"]) < TOLERANCE
    for engine, by_level in places.items():
        means = {level: values.reshape(3, 784, -1).mean(axis=1) for level, values in by_level.items()}
        assert difference(means, pooled[engine]) < TOLERANCE
    assert len(list((tmp_path / GRAPHS).iterdir())) == 2


@pytest.mark.parametrize("name", ["timm:test_vit", "resnet-18"])
def test_the_places_of_other_networks_are_the_same_by_both_engines(tmp_path, noise, name):
    backbone = find_backbone(name)
    torch.manual_seed(0)
    checkpoint = Checkpoint("random", Path("random"), "0" * 64, create_model(backbone).state_dict())
    resolved = ResolvedNetwork(backbone, backbone.paddings[0], (1, 2), checkpoint, grid=9)
    onnx, torchs = (
        build_engine(choice, resolved, tmp_path).run(squares_of(noise, backbone.input_size)) for choice in CPU
    )
    assert onnx[2].shape == (3, 81 * backbone.dims[1])
    assert difference(onnx, torchs) < TOLERANCE


# --- ONNX Runtime ---


@pytest.fixture
def graph(tmp_path):
    backbone = find_backbone("efficientnet-lite0")
    return lambda: load_graph(ResolvedNetwork(backbone, "tf", (1, 5), find_checkpoint(backbone, None)), tmp_path)


def test_an_images_features_depend_neither_on_its_neighbours_nor_on_threads_to_the_bit(graph, noise):
    squares = squares_of(noise, 224)
    together = OnnxEngine(graph(), (1, 5)).run(squares)
    for threads in (1, 3):
        engine = OnnxEngine(graph(), (1, 5), threads)
        for level in (1, 5):
            alone = np.concatenate([engine.run(square[None])[level] for square in squares[::-1]])[::-1]
            np.testing.assert_array_equal(together[level], alone)


def test_a_graph_is_exported_once_and_a_damaged_one_again(tmp_path, graph, monkeypatch):
    content = graph()
    (path,) = (tmp_path / GRAPHS).iterdir()
    with monkeypatch.context() as patched:
        patched.setattr("gaussad_cli.extraction.onnx_export.export_network", None)  # not called
        assert graph() == content
    path.write_bytes(content[:-9] + b"tampered!")
    assert graph() == content


@pytest.mark.parametrize("name", ["timm:test_convnext", "timm:test_vit", "efficientnet-b0", "resnet-18"])
def test_other_networks_export_to_the_same_features(tmp_path, noise, name):
    backbone = find_backbone(name)
    torch.manual_seed(0)
    tensors = create_model(backbone).state_dict()
    checkpoint = Checkpoint("random", Path("random"), "0" * 64, tensors)
    levels = tuple(range(1, backbone.n_levels + 1))
    resolved = ResolvedNetwork(backbone, backbone.paddings[0], levels, checkpoint)
    squares = squares_of(noise, backbone.input_size)
    with torch.inference_mode():
        network = build_network(resolved)
        expected = [level.numpy() for level in network(normalise(torch.from_numpy(squares), backbone))]
    for choice in CPU:
        engine = build_engine(choice, resolved, tmp_path)
        assert difference(engine.run(squares), dict(zip(levels, expected, strict=True))) < TOLERANCE


def test_a_network_that_cannot_be_exported_is_an_error_that_names_the_other_engine(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: 1 / 0)
    with pytest.raises(UserError, match=r"efficientnet-lite0 cannot be exported .*division by zero.*--engine torch"):
        load_graph(resolve(NetworkOptions("efficientnet-lite0", "1")), tmp_path)


def test_what_a_process_killed_at_the_export_left_goes_with_the_next_export(tmp_path, graph):
    graph()
    (path,) = (tmp_path / GRAPHS).iterdir()
    path.unlink()
    with subprocess.Popen([sys.executable, "-c", ""]) as killed:
        killed.wait()
    (tmp_path / GRAPHS / f".{path.name}.{files._HOST}-{killed.pid}.tmp").write_bytes(b"half a graph")
    graph()
    assert list((tmp_path / GRAPHS).iterdir()) == [path]


class Unchanged(LevelNetwork):
    """Gives its input, as rows: torch 2.10 writes no two outputs of one tensor."""

    levels = (1,)

    def feature_maps(self, images):
        yield images

    def pool(self, level):
        return level.flatten(1)


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-lite0", "timm:test_vit"])
def test_the_graph_normalises_by_the_float_formula_to_the_bit(name):
    backbone = find_backbone(name)
    size = backbone.input_size
    image = np.resize(np.arange(256, dtype=np.uint8), (size, size))
    images = np.stack([image, image.T, image[::-1]], axis=2)[None]
    mean, std = np.array(backbone.mean, np.float32), np.array(backbone.std, np.float32)
    expected = (images.astype(np.float32) / np.float32(255) - mean) / std
    ours = OnnxEngine(export_network(Unchanged(), backbone), (1,)).run(images)[1]
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, expected.transpose(0, 3, 1, 2).reshape(1, -1))


# --- torch ---


@pytest.fixture(params=[True, False])
def before(request):
    """What matrix products may do outside; put back by hand, the module's attributes being no ordinary ones."""
    outside, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, request.param
    yield request.param
    torch.backends.cuda.matmul.allow_tf32 = outside


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_tf32_is_for_convolutions_and_matrix_products_and_for_the_run_only(before, precision, allowed):
    seen = []

    class Watching(Unchanged):
        def forward(self, images):
            seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            return (images,)

    TorchEngine(Watching(), find_backbone("resnet-18"), "cpu", precision).run(np.zeros((1, 8, 8, 3), np.uint8))
    assert seen == [(allowed, allowed)]
    assert torch.backends.cuda.matmul.allow_tf32 == before


# --- choosing ---


@pytest.mark.parametrize(
    ("options", "cuda", "expected"),
    [
        (("auto", "auto", "fp32"), False, ("onnx", "cpu", "fp32")),
        (("auto", "auto", "fp32"), True, ("torch", "cuda", "fp32")),
        (("auto", "cpu", "fp32"), True, ("onnx", "cpu", "fp32")),
        (("onnx", "auto", "fp32"), True, ("onnx", "cpu", "fp32")),
        (("torch", "auto", "fp32"), False, ("torch", "cpu", "fp32")),
        (("auto", "auto", "bf16"), False, ("torch", "cpu", "bf16")),
        (("auto", "auto", "tf32"), True, ("torch", "cuda", "tf32")),
    ],
)
def test_auto_is_onnx_on_a_cpu_and_torch_on_cuda(monkeypatch, options, cuda, expected):
    monkeypatch.setattr(engines, "_has_driver", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert choose_engine(*options) == EngineChoice(*expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("tensorrt", "auto", "fp32"), "unknown --engine 'tensorrt'. Known: auto, onnx, torch"),
        (("auto", "gpu", "fp32"), "unknown --device 'gpu'"),
        (("auto", "auto", "fp16"), "unknown --precision 'fp16'"),
        (("auto", "cuda", "fp32"), "torch finds no CUDA device. Use --device cpu"),
        (("onnx", "cpu", "bf16"), "--engine torch for bf16"),
        (("auto", "cpu", "tf32"), "tf32 needs CUDA"),
    ],
)
def test_options_that_do_not_go_together_are_an_error(monkeypatch, options, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        choose_engine(*options)


def test_engine_and_precision_are_in_the_manifest_and_the_key(gaussad, tiny):
    base = ("extract", "--data", tiny, "--backbone", "efficientnet-lite0", "--levels", "3", "--categories", "lid")
    folders = [
        Path(gaussad(*base, *options).out.strip())
        for options in ((), ("--engine", "torch"), ("--precision", "bf16"), ("--engine", "onnx"))
    ]
    assert len(set(folders)) == 3
    recipes = [json.loads((folder / "lid/train/manifest.json").read_text())["recipe"] for folder in folders]
    assert [(recipe["engine"], recipe["precision"]) for recipe in recipes] == [
        ("onnx", "fp32"),
        ("torch", "fp32"),
        ("torch", "bf16"),
        ("onnx", "fp32"),
    ]
    several = gaussad("evaluate", "--backbone", "efficientnet-lite0")
    assert_user_error(several, "several extractions fit", "engine onnx fp32", "engine torch bf16", "--key")


def test_several_backbones_in_one_go(gaussad, tiny):
    both = ("--backbone", "efficientnet-lite0", "--backbone", "efficientnet-lite1")
    some = ("--levels", "3", "--categories", "lid")
    done = gaussad("extract", "--data", tiny, *both, *some)
    assert done.code == 0, done.err
    assert "24 images of 1 categories extracted" in done.err
    assert ["lite0" in done.out.split()[0], "lite1" in done.out.split()[1]] == [True, True]
    assert gaussad("run", "--data", tiny, *both, *some).code == 0
    assert set(read_metrics(Path("results"), None)["backbone"]) == {"efficientnet-lite0", "efficientnet-lite1"}
    refused = gaussad("extract", "--data", tiny, *both, "--weights", "x.pth")
    assert_user_error(refused, "--weights is the file of a single backbone")


def test_an_interruption_ends_with_a_line_on_how_to_go_on(gaussad, tiny, monkeypatch):
    engines = iter([ToyEngine(fail_after=8), ToyEngine()])

    def build(*_):
        engine = next(engines)
        engine.levels = (1,)
        return engine

    monkeypatch.setattr(extract, "build_engine", build)
    command = ("extract", "--data", tiny, "--backbone", "efficientnet-lite0", "--levels", "1", "--batch-size", "4")
    stopped = gaussad(*command)
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1].startswith("gaussad: interrupted in category 'knob'. What was finished is kept")
    assert "Traceback" not in stopped.err
    assert gaussad(*command).code == 0
