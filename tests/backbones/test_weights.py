"""Weight files: real ones, partial ones, broken ones, and the hub's cache."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from skimage import data

from gaussad_cli.backbones.network import build_network, create_model, normalise
from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.backbones.resolve import ResolvedNetwork
from gaussad_cli.backbones.weights import available_levels, find_checkpoint, read_checkpoint, to_timm_names
from gaussad_cli.errors import UserError
from tests.conftest import ROOT

LITE0 = find_backbone("efficientnet-lite0")
RESNET = find_backbone("resnet-18")


@pytest.fixture(scope="module")
def resnet_tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return create_model(RESNET).state_dict()


def load(path: Path, backbone=RESNET, levels=(1, 2, 3, 4, 5)):
    checkpoint = read_checkpoint(path, path.stem)
    return build_network(ResolvedNetwork(backbone, backbone.paddings[0], levels, checkpoint))


# ImageNet classes that the package's weights find in scikit-image's photographs (shared/weights/README.md).
@pytest.mark.parametrize(
    ("photograph", "label", "probability"), [("chelsea", 285, 0.40), ("coffee", 967, 0.94), ("rocket", 657, 0.32)]
)
def test_lite0_with_renamed_weights_recognises_photographs(photograph, label, probability):
    import cv2

    model = create_model(LITE0)
    model.load_state_dict(
        to_timm_names(find_checkpoint(LITE0, None).tensors, model)
    )  # strict: every tensor has its place
    image = centre_square(getattr(data, photograph)())
    image = cv2.resize(image, (224, 224), interpolation=cv2.INTER_LINEAR)
    with torch.inference_mode():
        probabilities = model(normalise(torch.from_numpy(image)[None], LITE0)).softmax(1)[0]
    assert int(probabilities.argmax()) == label
    assert float(probabilities[label]) == pytest.approx(probability, abs=0.05)


def centre_square(image):
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side, :3]


def test_b4_file_serves_levels_1_to_7_and_no_more(weights):
    backbone = find_backbone("efficientnet-b4")
    path = weights / "efficientnet-b4-levels1-7.pth"
    model = create_model(backbone)
    assert available_levels(
        model.state_dict(), backbone, to_timm_names(read_checkpoint(path, "b4").tensors, model)
    ) == (1, 2, 3, 4, 5, 6, 7)
    load(path, backbone, (1, 7))
    with pytest.raises(
        UserError, match=r"lacks 2 tensors .*for levels 8: _blocks.31._expand_conv.weight.*Available: --levels 1-7\."
    ):
        load(path, backbone, (8,))


def test_resnet18_file_serves_levels_1_to_4_and_no_more(weights):
    load(weights / "resnet18-levels1-4.pth", levels=(1, 2, 3, 4))
    with pytest.raises(UserError, match=r"lacks 4 tensors .*Available: --levels 1-4"):
        load(weights / "resnet18-levels1-4.pth")


def test_torch_safetensors_and_wrapped_files_give_the_same_network(tmp_path, resnet_tensors):
    torch.save(resnet_tensors, tmp_path / "plain.pth")
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in resnet_tensors.items()}, "epoch": 3}, tmp_path / "wrapped.pth"
    )
    save_file({k: v.contiguous() for k, v in resnet_tensors.items()}, tmp_path / "safe.safetensors")
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = load(tmp_path / "plain.pth")(image)
        for name in ("wrapped.pth", "safe.safetensors"):
            for ours, theirs in zip(load(tmp_path / name)(image), expected, strict=True):
                assert torch.equal(ours, theirs)


class Harmful:
    """Writes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_file_with_code_in_it_is_refused_and_nothing_runs(tmp_path):
    torch.save({"conv1.weight": Harmful(tmp_path / "ran")}, tmp_path / "code.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Harmful(tmp_path / "ran")))
    for name in ("code.pth", "bare.pth"):
        with pytest.raises(UserError, match="never does"):
            read_checkpoint(tmp_path / name, name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello, I am no weights", b"PK\x03\x04 cut short", bytes(1000)])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_checkpoint(tmp_path / name, "x")


def test_a_truncated_file_is_an_error_that_names_it(tmp_path, resnet_tensors):
    buffer = io.BytesIO()
    torch.save(resnet_tensors, buffer)
    (tmp_path / "cut.pth").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    assert not zipfile.is_zipfile(tmp_path / "cut.pth")
    with pytest.raises(UserError, match=r"cut\.pth"):
        read_checkpoint(tmp_path / "cut.pth", "cut")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"something.else": t["conv1.weight"]}, "holds no tensor of resnet-18"),
        (lambda t: {**t, "conv1.weight": torch.zeros(3)}, "does not fit resnet-18: conv1.weight"),
        (lambda t: {**t, "layer2.0.conv1.weight": t["layer2.0.conv1.weight"] * float("nan")}, "NaN or infinite"),
        (lambda t: {k: v for k, v in t.items() if k != "conv1.weight"}, "No level is available"),
    ],
)
def test_tensors_that_do_not_serve_are_an_error_that_says_why(tmp_path, resnet_tensors, change, message):
    torch.save(change(resnet_tensors), tmp_path / "changed.pth")
    with pytest.raises(UserError, match=message):
        load(tmp_path / "changed.pth")


def test_a_deeper_networks_weights_are_refused_though_all_shapes_fit(tmp_path):
    torch.save(create_model(find_backbone("resnet-34")).state_dict(), tmp_path / "r34.pth")
    with pytest.raises(UserError, match=r"no place for: layer1\.2\.conv1"):
        load(tmp_path / "r34.pth")


@pytest.mark.parametrize("other", ["efficientnet-lite1", "efficientnet-b0"])
def test_weights_of_a_related_efficientnet_are_refused(tmp_path, other):
    model = create_model(find_backbone(other))
    torch.save(model.state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match="no place for"):
        load(tmp_path / "other.pth", LITE0, (1,))
    with pytest.raises(UserError, match="no place for"):  # under efficientnet_pytorch's names
        load(find_checkpoint(find_backbone("efficientnet-lite2"), None).path, LITE0, (1,))


def test_a_file_that_is_not_what_its_name_says_is_an_error_unless_told_to_go_on(tmp_path, resnet_tensors):
    path = tmp_path / RESNET.published
    torch.save(resnet_tensors, path)
    with pytest.raises(UserError, match=r"SHA-256 begins with .*, not f37072fd.*--no-verify"):
        find_checkpoint(RESNET, path)
    assert find_checkpoint(RESNET, path, verify=False).tensors.keys() == resnet_tensors.keys()


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.pth"):
        find_checkpoint(RESNET, tmp_path / "nowhere.pth")


HUB_SCRIPT = """
import sys
from pathlib import Path
from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.backbones.weights import find_checkpoint
from gaussad_cli.errors import UserError
try:
    find_checkpoint(find_backbone("resnet-18"), None)
except UserError as error:
    print(f"error: {error}")
Path(sys.argv[1]).rename(Path(sys.argv[2]))
print(find_checkpoint(find_backbone("resnet-18"), None).label)
"""


def test_without_a_network_weights_are_found_in_the_hubs_cache_or_the_error_says_where_to_get_them(
    tmp_path, resnet_tensors
):
    """Offline, in a process of its own: huggingface_hub reads its settings on import."""
    repository = tmp_path / "later"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("abc123")
    (repository / "snapshots/abc123").mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in resnet_tensors.items()}, repository / "snapshots/abc123/model.safetensors")
    cache = tmp_path / "hub"
    cache.mkdir()
    command = [sys.executable, "-c", HUB_SCRIPT, repository, cache / "models--timm--resnet18.tv_in1k"]
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    without, found = done.stdout.splitlines()
    for part in ("error: ", "resnet-18", "timm/resnet18.tv_in1k", "--weights FILE"):
        assert part in without
    assert found.startswith("resnet18.tv_in1k@")
