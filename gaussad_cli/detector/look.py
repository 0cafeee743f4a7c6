"""How a detector looks at images: the network that it needs, and files through that network a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gaussad_cli.backbones.registry import Backbone, find_backbone, format_levels
from gaussad_cli.backbones.resolve import NetworkOptions, ResolvedNetwork, resolve
from gaussad_cli.detector.model import BackboneIdentity, Model
from gaussad_cli.errors import ImageError, UserError, in_one_line
from gaussad_cli.extraction import graphs
from gaussad_cli.extraction.decode import Squares, decode_image, read_squares
from gaussad_cli.extraction.engine import Compute, Engine, EngineChoice, build_engine
from gaussad_cli.extraction.onnx_engine import OnnxEngine
from gaussad_cli.extraction.remarks import Remarks
from gaussad_cli.extraction.store import depth_of, preprocessing
from gaussad_cli.lookahead import Together, look_ahead

LOOKAHEAD = 2  # batches that are decoded while one is in the network


@dataclass(frozen=True)
class OpenNetwork:
    """A network that is ready to look at images.

    Attributes
    ----------
    engine : runs it
    identity : all that its features depend on
    compute : the options that it was opened with
    graph : gives the network as ONNX, for a model to carry, and exports it for that if need be; empty if it cannot be
        exported
    """

    engine: Engine
    identity: BackboneIdentity
    compute: Compute
    graph: Callable[[], bytes] = field(default=bytes, repr=False)


@dataclass(frozen=True)
class ImageFeatures:
    """What the network made of one image file.

    Attributes
    ----------
    sha256 : of the file; "" if it could not be read
    error : why there are no features; "" if there are
    features : level -> (D,) float32; with a grid, (places * D,), place by place
    shape : height and width of the file's pixels
    """

    path: Path
    sha256: str
    error: str
    features: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    shape: tuple[int, int] = (0, 0)


def open_network(options: NetworkOptions, compute: Compute, cache: Path) -> OpenNetwork:
    """Open a network to train a detector with.

    Raises
    ------
    UserError
        If an option, or the weights, cannot be used.
    """
    choice = compute.choose()
    network = resolve(options)
    backbone, checkpoint = network.backbone, network.checkpoint
    identity = BackboneIdentity(
        name=backbone.name,
        weights=checkpoint.label,
        weights_sha256=checkpoint.sha256,
        padding=network.padding,
        input_size=backbone.input_size,
        mean=backbone.mean,
        std=backbone.std,
        preprocessing=preprocessing(options.depth),
        engine=choice.engine,
        precision=choice.precision,
        grid=options.grid,
    )
    return _open(choice, network, identity, compute, cache)


def open_network_of(
    model: Model,
    weights: Path | None,
    compute: Compute,
    cache: Path,
    say: Callable[[str], object],
    engine_of: Callable[[Model], Engine] | None = None,
) -> OpenNetwork:
    """Open the network that a model was trained with: the one that it carries, if ONNX Runtime is to run it.

    Parameters
    ----------
    weights : see :func:`find_network`; if they are given, the network is built from them
    say : is told if the engine or precision is not that of the training
    engine_of : opens the network that a model carries; None: :func:`carried_engine`

    Raises
    ------
    UserError
        If an option cannot be used, or the network is not the model's.
    """
    carried, identity = carried_network(model, weights), model.backbone
    compute = without_gpu(compute) if carried else compute
    choice = compute.choose()
    if (choice.engine, choice.precision) != (identity.engine, identity.precision):
        by_rounding = " by rounding" if choice.precision == identity.precision == "fp32" else ""
        say(
            f"The model was trained with engine {identity.engine} in {identity.precision}; scores computed with "
            f"{choice.engine} in {choice.precision} differ{by_rounding}."
        )
    if carried and choice.engine == "onnx":
        return OpenNetwork((engine_of or carried_engine)(model), identity, compute, lambda: carried)
    return _open(choice, find_network(model, weights), identity, compute, cache)


def without_gpu(compute: Compute) -> Compute:
    """Return options by which a model that carries its network asks for no GPU, unless one is named.

    torch and the weights, which a GPU needs, are not there on every machine that a model is used on.
    """
    return replace(compute, device="cpu") if compute.device == "auto" else compute


def _open(
    choice: EngineChoice, network: ResolvedNetwork, identity: BackboneIdentity, compute: Compute, cache: Path
) -> OpenNetwork:
    if choice.engine == "onnx":
        graph = graphs.load_graph(network, cache)
        return OpenNetwork(OnnxEngine(graph, network.levels), identity, compute, lambda: graph)

    def export() -> bytes:
        with suppress(UserError):  # torch runs networks that cannot be exported, too
            return graphs.load_graph(network, cache)
        return b""

    return OpenNetwork(build_engine(choice, network, cache), identity, compute, export)


def carried_network(model: Model, weights: Path | None) -> bytes:
    """Return the graph of the network that a model carries; empty if it has none, or weights are given instead."""
    return model.network if weights is None else b""


def carried_engine(model: Model) -> OnnxEngine:
    """Return an engine that runs the network in a model.

    Raises
    ------
    UserError
        If ONNX Runtime cannot run it, or its input or features are not the model's.
    """
    try:
        engine = OnnxEngine(model.network, model.level_numbers)
    except Exception as error:  # ONNX Runtime's exceptions have no type in common
        reason = in_one_line(error)[:200]
        raise UserError(f"this ONNX Runtime cannot run the network in the model ({reason}). {_REMEDY}") from None
    check_carried(engine, model)
    return engine


def check_carried(engine: OnnxEngine, model: Model) -> None:
    """Check that an engine takes the input and gives the features of a model.

    Raises
    ------
    UserError
        If it does not, or this gaussad does not know how the model's images were read.
    """
    check_preprocessing(model.backbone)
    places = max(1, model.backbone.grid**2)
    widths = tuple(places * dim for dim in model.gaussians.dims.values())
    if (engine.input_size, engine.widths) != (model.backbone.input_size, widths):
        raise UserError(f"the network in the model has another input or other features than the model. {_REMEDY}")


def find_network(model: Model, weights: Path | None) -> ResolvedNetwork:
    """Find the backbone and the weights that a model was trained with on this machine.

    Parameters
    ----------
    weights : the weight file; None: the backbone's published one

    Raises
    ------
    UserError
        If the weights cannot be read or are other ones, or this gaussad feeds the network differently.
    """
    identity = model.backbone
    backbone = find_backbone(identity.name)
    _check_input(identity, backbone)
    _check_levels(model, backbone)
    # The model's own hash says more than the file's name: verify=False.
    levels = format_levels(model.level_numbers)
    options = NetworkOptions(identity.name, levels, weights, identity.padding, verify=False, grid=identity.grid)
    network = resolve(options)
    checkpoint = network.checkpoint
    if checkpoint.sha256 != identity.weights_sha256:
        raise UserError(
            f"{checkpoint.path} is not the weight file that the model was trained with: its SHA-256 begins with "
            f"{checkpoint.sha256[:8]}, not {identity.weights_sha256[:8]} ({identity.weights}). Give the right file "
            "with --weights."
        )
    return network


def _check_input(identity: BackboneIdentity, backbone: Backbone) -> None:
    check_preprocessing(identity)
    wanted = (identity.input_size, tuple(identity.mean), tuple(identity.std))
    given = (backbone.input_size, backbone.mean, backbone.std)
    if wanted != given or identity.padding not in backbone.paddings:
        raise UserError(
            f"the model's {identity.name} takes other input (size, mean, std or padding) than this gaussad's. {_REMEDY}"
        )


def check_preprocessing(identity: BackboneIdentity) -> None:
    """Check that this gaussad reads images as those of a model were read.

    Raises
    ------
    UserError
        If it does not know how.
    """
    try:
        depth_of(identity.preprocessing)
    except ValueError:
        raise UserError(f"the model's images were read in a way that this gaussad does not know. {_REMEDY}") from None


def _check_levels(model: Model, backbone: Backbone) -> None:
    for level, dim in model.gaussians.dims.items():
        if (backbone.dims[level - 1 : level] if level >= 1 else ()) != (dim,):
            raise UserError(
                f"this gaussad's {backbone.name} has no level {level} of {dim} features, as the model's has. {_REMEDY}"
            )


_REMEDY = "Use the gaussad that the model was made with, or train it again."


def look(network: OpenNetwork, paths: Iterable[Path], one_by_one: bool = False) -> Iterator[list[ImageFeatures]]:
    """Yield the features of image files in order, a batch at a time. A file that cannot be read does not end it.

    Only a few batches are in memory, however many files there are.

    Parameters
    ----------
    one_by_one : whether the features of every file are yielded before the next file is asked for
    """
    return look_by(lambda _: network, paths, network.compute, one_by_one)


def look_by(
    network_for: Callable[[Path], OpenNetwork], paths: Iterable[Path], compute: Compute, one_by_one: bool = False
) -> Iterator[list[ImageFeatures]]:
    """Do what :func:`look` does, with a network of its own for every file.

    Parameters
    ----------
    network_for : gives it, or raises UserError to say why there is none: that becomes the file's error
    compute : says how many files make a batch. Those of a batch that have the same engine run together
    """
    remaining, remarks = iter(paths), Remarks()
    n = 1 if one_by_one else compute.images_at_once
    batches = iter(lambda: [_Asked.by(network_for, path) for path in islice(remaining, n)], [])
    with ThreadPoolExecutor(max(1, compute.threads)) as pool:

        def submit(batch: list[_Asked]) -> Together[_Read | UserError]:
            return Together([pool.submit(asked.read) for asked in batch])

        for batch, answers in look_ahead(batches, submit, 0 if one_by_one else LOOKAHEAD):
            readable = [read for read in answers if isinstance(read, _Read)]
            remarks.tell([read.path for read in readable], [read.squares for read in readable])
            yield _run(batch, answers)


def look_at(
    network: OpenNetwork, content: bytes, path: Path, remarks: Remarks
) -> tuple[ImageFeatures, NDArray[np.uint8]]:
    """Return the features of the content of an image file, and the image's pixels, (H, W, 3) RGB or (H, W) gray.

    Parameters
    ----------
    path : its name in messages
    remarks : tell what is odd about it

    Raises
    ------
    ImageError
        See :func:`gaussad_cli.extraction.decode.read_squares`.
    """
    identity = network.identity
    pixels, squares = decode_image(content, path, [identity.input_size], depth_of(identity.preprocessing))
    remarks.tell([path], [squares])
    (image,) = _features(network.engine, [_Read(path, network.engine, squares)])
    return image, pixels


@dataclass(frozen=True)
class _Read:
    """A file that was read, and the engine that is to look at it."""

    path: Path
    engine: Engine
    squares: Squares

    @property
    def square(self) -> NDArray[np.uint8]:
        (square,) = self.squares.by_size.values()
        return square


@dataclass(frozen=True)
class _Asked:
    """A file, and the network to look at it, or why there is none."""

    path: Path
    network: OpenNetwork | UserError

    @classmethod
    def by(cls, network_for: Callable[[Path], OpenNetwork], path: Path) -> _Asked:
        try:
            return cls(path, network_for(path))
        except UserError as error:
            return cls(path, error)

    def read(self) -> _Read | UserError:
        """Read the file for the network; return why that cannot be done if it cannot."""
        if isinstance(self.network, UserError):
            return self.network
        identity = self.network.identity
        try:
            squares = read_squares(self.path, [identity.input_size], depth_of(identity.preprocessing))
        except ImageError as error:
            return error
        return _Read(self.path, self.network.engine, squares)


def look_at_all(network: OpenNetwork, paths: Sequence[Path], description: str) -> Iterator[ImageFeatures]:
    """Yield the features of image files one after the other, and show a progress bar."""
    with tqdm(total=len(paths), desc=description, unit="img", disable=None, dynamic_ncols=True) as bar:
        for batch in look(network, paths):
            yield from batch
            bar.update(len(batch))


def check_readable(images: Iterable[ImageFeatures], remedy: str) -> None:
    """Check that all images could be read.

    Parameters
    ----------
    remedy : ends the message with what to do

    Raises
    ------
    UserError
        If some could not; it names them all.
    """
    if errors := [image.error for image in images if image.error]:
        count = f"{len(errors)} images cannot be used. " if len(errors) > 1 else ""
        raise UserError(f"{count}{'; '.join(error.rstrip('.') for error in errors)}. {remedy}")


def _run(batch: Sequence[_Asked], answers: Sequence[_Read | UserError]) -> list[ImageFeatures]:
    """Return the features of a batch of files in order; those of files with the same engine are computed together."""
    by_engine: dict[Engine, list[_Read]] = {}
    for read in answers:
        if isinstance(read, _Read):
            by_engine.setdefault(read.engine, []).append(read)
    looked = {engine: iter(_features(engine, reads)) for engine, reads in by_engine.items()}
    return [
        next(looked[read.engine]) if isinstance(read, _Read) else ImageFeatures(asked.path, "", str(read))
        for asked, read in zip(batch, answers, strict=True)
    ]


def _features(engine: Engine, reads: Sequence[_Read]) -> list[ImageFeatures]:
    by_level = engine.run(np.stack([read.square for read in reads]))
    rows = [{level: values[row] for level, values in by_level.items()} for row in range(len(reads))]
    return [
        _checked(ImageFeatures(read.path, read.squares.sha256, "", row, read.squares.shape))
        for read, row in zip(reads, rows, strict=True)
    ]


def _checked(image: ImageFeatures) -> ImageFeatures:
    if all(np.isfinite(values).all() for values in image.features.values()):
        return image
    error = f"{image.path} has NaN or infinite features: check the image and the weights."
    return ImageFeatures(image.path, image.sha256, error)
