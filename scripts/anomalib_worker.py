"""anomalib's PaDiM or PatchCore, trained or asked once. `bench_places.py` starts this with anomalib's own interpreter.

anomalib's torch-level models and defaults (9 neighbours, batches of 32, float32), without Lightning around them, whose
time is not counted against anomalib. Images are read and resized as gaussad does it, in threads. Saved is what was
fitted, not the network. Prints one line of JSON: the seconds after imports and building.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")  # of deprecated imports, at import

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from anomalib.models.image.padim.torch_model import PadimModel  # noqa: E402
from anomalib.models.image.patchcore.torch_model import PatchcoreModel  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from timm.layers.conv2d_same import Conv2dSame  # noqa: E402
from torch import Tensor, nn  # noqa: E402

BATCH = 32  # anomalib's default to train and to evaluate
SEED = 0  # of PaDiM's random channels, and PatchCore's projection and first centre


def build(options: argparse.Namespace) -> Any:
    """Return the model on the network described in a JSON file, with that network's weights."""
    torch.manual_seed(SEED)
    np.random.seed(SEED)  # PatchCore's random projection draws from NumPy's
    network = timm.create_model(options.network["timm_name"], pretrained=False).eval()
    network.load_state_dict(load_file(options.network["weights"]))
    fix_padding(network)
    if options.model == "patchcore":
        return PatchcoreModel(layers=options.layers, backbone=network)
    return PadimModel(layers=options.layers, backbone=network, n_features=options.channels)


def fix_padding(network: nn.Module) -> None:
    """Give strided convolutions a fixed padding, the same as theirs for even sizes, so that anomalib can trace them."""
    for name, old in list(network.named_modules()):
        if isinstance(old, Conv2dSame):
            size, stride = old.kernel_size[0], old.stride[0]
            extra = size - stride
            before, after = extra // 2, extra - extra // 2
            new = nn.Conv2d(old.in_channels, old.out_channels, size, stride, groups=old.groups)
            new.weight, new.bias = old.weight, old.bias
            network.set_submodule(name, nn.Sequential(nn.ZeroPad2d((before, after, before, after)), new))


def batches(paths: Sequence[Path], network: dict[str, Any]) -> Iterator[Tensor]:
    """Yield normalised images (B, 3, H, W), float32.

    All cores read a batch before they run the network: together, threads that read would hold up torch's, which wait
    for each other thousands of times in a batch.
    """
    mean, std = (torch.tensor(network[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(paths), BATCH):
            batch = list(pool.map(lambda path: read(path, network["size"]), paths[first : first + BATCH]))
            yield (torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 255 - mean) / std


def read(path: Path, size: int) -> NDArray[np.uint8]:
    """Return an image as RGB (size, size, 3), resized straight to the square, bilinearly, without antialiasing."""
    pixels = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def train(model: Any, options: argparse.Namespace) -> dict[str, float]:
    """Fit the model to a folder of images and save it without the network; return seconds, of fitting alone too."""
    begin = time.perf_counter()
    model.train()
    for batch in batches(options.paths, options.network):
        model(batch)
    fitting = time.perf_counter()
    if options.model == "patchcore":
        model.subsample_embedding(options.coreset)
    else:
        model.fit()
    fitted = time.perf_counter()
    fit = {k: v for k, v in model.state_dict().items() if not k.startswith(("feature_extractor.", "backbone."))}
    torch.save(fit, options.file)
    return {"seconds": time.perf_counter() - begin, "fit_seconds": fitted - fitting}


def predict(model: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Score a folder of images; write a map for each; return seconds without and with writing, and the scores."""
    model.load_state_dict(torch.load(options.file), strict=False)  # all but the network's tensors
    model.eval()
    for batch in batches(options.paths[:1], options.network):  # the first call is start-up, as gaussad's is
        model(batch)
    begin = time.perf_counter()
    results = [model(batch) for batch in batches(options.paths, options.network)]
    seconds = time.perf_counter() - begin
    scores = torch.cat([result.pred_score.flatten() for result in results]).tolist()
    names = [path.relative_to(options.images) for path in options.paths]
    write_maps(options.maps, names, torch.cat([result.anomaly_map[:, 0] for result in results]).numpy())
    written = time.perf_counter() - begin
    return {"seconds": seconds, "maps_seconds": written, "scores": dict(zip(map(str, names), scores, strict=True))}


def write_maps(folder: Path, names: Sequence[Path], maps: NDArray[np.float32]) -> None:
    """Write maps (n, H, W) below a folder, one .npy file by the name of each image."""
    for name, values in zip(names, maps, strict=True):
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "predict"))
    parser.add_argument("--model", choices=("padim", "patchcore"), required=True)
    parser.add_argument("--network", type=lambda path: json.loads(Path(path).read_text()), required=True)
    parser.add_argument("--layers", nargs="+", required=True, help="modules of the network, largest maps first")
    parser.add_argument("--channels", type=int, help="PaDiM's random channels")
    parser.add_argument("--coreset", type=float, help="share of the places that PatchCore keeps")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--file", type=Path, required=True, help="the model, to write or to read")
    parser.add_argument("--maps", type=Path, help="folder for the maps of predict")
    options = parser.parse_args()
    options.paths = sorted(path for path in options.images.rglob("*") if path.is_file())
    model = build(options)
    with torch.no_grad():
        print(json.dumps((train if options.step == "train" else predict)(model, options)))


if __name__ == "__main__":
    main()
