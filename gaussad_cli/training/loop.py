"""One resumable training loop for every comparator that is trained.

After each epoch everything the next one depends on is in the fold's state file, written whole: the network, Adam's
moments, the best network so far, and the history, from which patience follows. Nothing is drawn from a generator that
runs on: the order of the images, their augmentation and the network's own draws (dropout) follow from the seed, the
category, the fold and the epoch. So a run that was killed at any moment goes on with the last whole epoch, and on a CPU
ends with the same bits as one that was not (with the same number of threads: sums in another order round differently).
On CUDA some sums have no fixed order, and the last digits may differ.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.backends import cudnn
from tqdm import tqdm

from gaussad_cli.datasets.index import NORMAL, ImageFile
from gaussad_cli.errors import UserError, interruptible
from gaussad_cli.extraction.augment import CHAIN_VERSION, Augmenter
from gaussad_cli.extraction.decode import read_squares
from gaussad_cli.extraction.engine import Precision
from gaussad_cli.extraction.store import Recipe, digest
from gaussad_cli.files import write_json, write_whole

LOOP_VERSION = 1  # raise it when the same options would give other numbers
LOOKAHEAD = 2  # batches augmented, or on their way, beyond the one in the network
RECIPE = "recipe.json"  # beside the states: what their key is the hash of

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class TrainingOptions:
    """How to train; all but `workers` change the numbers.

    Attributes
    ----------
    seed : of fresh tensors, order, augmentation and dropout
    learning_rate : Adam's (PROTOCOL: 1e-4)
    batch_size : images at a time; None: the network's own (PROTOCOL: 64, EfficientNet 16)
    max_epochs : where training ends if it does not stop early
    patience : epochs without a better one after which it stops (PROTOCOL: 3)
    device, precision : "tf32" only on CUDA; "bf16" autocasts to bfloat16
    workers : threads that augment ahead of the network
    """

    seed: int = 0
    learning_rate: float = 1e-4
    batch_size: int | None = None
    max_epochs: int = 100
    patience: int = 3
    device: str = "cpu"
    precision: Precision = "fp32"
    workers: int = 2

    def __post_init__(self) -> None:
        for name in ("max_epochs", "patience", "workers", "batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name.replace('_', ' ')} is {value}: at least 1 is needed.")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning rate is {self.learning_rate}: a positive number is needed.")


@dataclass(frozen=True)
class Network:
    """What is trained.

    Attributes
    ----------
    build : makes it, drawing fresh tensors from torch's generator, which is seeded; is given a sample of the training
        part's inputs (n, 3, size, size)
    inputs : (N, size, size, 3) uint8 RGB -> its (N, 3, size, size) float32 input, on the same device
    identity : everything that changes its numbers; hashed into the states' key
    input_size : pixels
    batch_size : images at a time, if the options do not say
    fresh : tensors of the trunk that the weight file lacks, and that start at random
    settles : whether batch norm's statistics are taken anew after every epoch, see :func:`settle_batch_norm`
    """

    build: Callable[[Tensor], nn.Module]
    inputs: Callable[[Tensor], Tensor]
    identity: Mapping[str, Any]
    input_size: int
    batch_size: int
    fresh: tuple[str, ...] = ()
    settles: bool = False


class Objective(Protocol):
    """What a network is trained for, and how it scores."""

    @property
    def ranking(self) -> str | None:
        """Name of the score whose AUROC on the validation part picks the best epoch; None: the loss does."""
        ...

    def losses(self, outputs: Tensor, inputs: Tensor, anomalous: Tensor) -> Tensor:
        """Return (n,) float32, one loss per image; `anomalous` is (n,) of 0 and 1, float32."""
        ...

    def scores(self, outputs: Tensor, inputs: Tensor) -> dict[str, NDArray[np.float64]]:
        """Return name -> (n,), higher for what is more anomalous."""
        ...


@dataclass(frozen=True)
class Images:
    """Decoded images in memory: names, SHA-256 of the files, whether anomalous (N,), (N, size, size, 3) uint8 RGB."""

    names: tuple[str, ...]
    sha256: tuple[str, ...]
    anomalous: NDArray[np.bool_]
    squares: NDArray[np.uint8]


@dataclass(frozen=True)
class Fold:
    """Numbers of the images of its three parts."""

    number: int
    train: Indices
    valid: Indices
    test: Indices


@dataclass(frozen=True)
class EpochRow:
    """One row of a history: losses are means per image; `valid_auroc` is None where the loss picks the epoch."""

    epoch: int
    train_loss: float
    valid_loss: float
    valid_auroc: float | None


@dataclass(frozen=True)
class FoldScores:
    """What a fold came to.

    Attributes
    ----------
    fold : number, from 0
    n_train : images that it was trained on
    names, anomalous : of its test images
    scores : name -> (m,), one per test image, by the best epoch's network
    history : all epochs
    best_epoch : number of the one that scored
    state : file of the best network's tensors
    """

    fold: int
    n_train: int
    names: tuple[str, ...]
    anomalous: NDArray[np.bool_]
    scores: Mapping[str, NDArray[np.float64]]
    history: tuple[EpochRow, ...]
    best_epoch: int
    state: Path


@dataclass(frozen=True)
class Training:
    """All folds of a category: `options.batch_size` is set, `folder` is the states' own, named after `key`."""

    category: str
    network: Network
    objective: Objective
    images: Images
    folds: Sequence[Fold]
    augmenter: Augmenter
    options: TrainingOptions
    folder: Path
    key: str


def read_images(images: Sequence[ImageFile], size: int, workers: int) -> Images:
    """Decode images into memory: a few hundred of 224 pixels are some 60 MB.

    Raises
    ------
    ImageError
        If one cannot be used.
    """
    with ThreadPoolExecutor(workers) as pool:
        read = list(pool.map(lambda image: read_squares(image.path, [size]), images))
    squares = np.stack([one.by_size[size] for one in read])
    squares.setflags(write=False)  # every epoch starts from them
    return Images(
        names=tuple(image.name for image in images),
        sha256=tuple(one.sha256 for one in read),
        anomalous=np.array([image.label != NORMAL for image in images]),
        squares=squares,
    )


def plan_training(
    category: str,
    network: Network,
    objective: Objective,
    images: Images,
    folds: Sequence[Fold],
    augmenter: Augmenter,
    options: TrainingOptions,
    folder: Path,
) -> Training:
    """Put a training together, and name its states' folder, ``<folder>/<key>``, after everything that changes them."""
    options = dataclasses.replace(options, batch_size=options.batch_size or network.batch_size)
    content = {
        "loop": LOOP_VERSION,
        "category": category,
        "network": dict(network.identity),
        "input_size": network.input_size,
        "fresh": list(network.fresh),
        "objective": repr(objective),
        "options": {name: value for name, value in vars(options).items() if name != "workers"},
        "preprocessing": Recipe.preprocessing,
        "augmentation": {**vars(augmenter.rules), "seed": augmenter.seed, "version": CHAIN_VERSION},
        "images": [list(image) for image in zip(images.names, images.sha256, strict=True)],
        "folds": [[part.tolist() for part in (fold.train, fold.valid, fold.test)] for fold in folds],
    }
    key = digest(content)
    own = folder / key[:16]
    write_json(own / RECIPE, content)
    return Training(category, network, objective, images, folds, augmenter, options, own, key)


def train_folds(training: Training) -> list[FoldScores]:
    """Train and score every fold that is not finished; return all.

    Raises
    ------
    UserError
        If training diverges, the GPU's memory does not hold a batch, or the states cannot be written.
    """
    return [train_fold(training, fold) for fold in training.folds]


def train_fold(training: Training, fold: Fold) -> FoldScores:
    """Train one fold from where its state file ends, and score its test part; a finished one is only read.

    See :func:`train_folds`.
    """
    path = training.folder / f"fold_{fold.number}.pt"
    state = read_state(path, training.key, fold.number)
    if not (state and state.scores):
        with ExitStack() as stack:
            stack.enter_context(_modes(training.options))
            pool = ThreadPoolExecutor(training.options.workers)
            stack.callback(pool.shutdown, cancel_futures=True)
            bar = stack.enter_context(tqdm(unit="img", disable=None, dynamic_ncols=True))
            state = _Run(training, fold, path, pool, bar).finish(state)
    return FoldScores(
        fold=fold.number,
        n_train=len(fold.train),
        names=tuple(training.images.names[i] for i in fold.test),
        anomalous=training.images.anomalous[fold.test],
        scores={name: values.numpy() for name, values in state.scores.items()},
        history=state.history,
        best_epoch=best_epoch(state.history),
        state=path,
    )


def resumable(category: str, folder: Path) -> AbstractContextManager[None]:
    """Turn Ctrl-C into a message that says how to go on."""
    return interruptible(
        f"interrupted in category '{category}'. Every finished epoch is kept in {folder}: run the same command again "
        "to go on."
    )


# --- which epoch is the best, and which the last ---


def best_epoch(history: Sequence[EpochRow]) -> int:
    """Return the number of the best epoch: highest validation AUROC or, without, lowest loss; of equals the first."""
    return min(history, key=_badness).epoch


def is_over(history: Sequence[EpochRow], options: TrainingOptions) -> bool:
    """Whether training ends after these epochs: as many as allowed, or the last `patience` were none better."""
    if not history:
        return False
    return len(history) >= options.max_epochs or history[-1].epoch - best_epoch(history) >= options.patience


def _badness(row: EpochRow) -> float:
    return row.valid_loss if row.valid_auroc is None else -row.valid_auroc


# --- state files ---


@dataclass(frozen=True)
class State:
    """What is known of a fold after an epoch: tensors on the CPU.

    Attributes
    ----------
    history : all epochs so far
    best : tensors of the best epoch's network
    network, optimizer : after the last epoch; empty when the fold is finished
    scores : of the test part, by the best network; empty until the fold is finished
    """

    history: tuple[EpochRow, ...]
    best: dict[str, Tensor]
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    scores: dict[str, Tensor]


def write_state(path: Path, key: str, fold: int, state: State) -> None:
    """Write a fold's state whole; until it is in place its temporary file lies in :func:`scratch_folder`.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    content = {name: getattr(state, name) for name in ("best", "network", "optimizer", "scores")}
    content |= {"key": key, "fold": fold, "history": [dataclasses.astuple(row) for row in state.history]}
    buffer = io.BytesIO()  # torch would turn a full disk into an error of its own
    torch.save(content, buffer)
    write_whole(path, lambda file: file.write(buffer.getbuffer()), scratch_folder(path))


def read_state(path: Path, key: str, fold: int) -> State | None:
    """Read a fold's state, never unpickling more than tensors and plain values.

    Returns
    -------
    None if it is missing, damaged or of another training, since the fold can be trained again.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if (content["key"], content["fold"]) != (key, fold):
            return None
        history = tuple(EpochRow(*row) for row in content["history"])
        return State(history, **{name: dict(content[name]) for name in ("best", "network", "optimizer", "scores")})
    except Exception:  # torch raises almost anything on a damaged file
        return None


def scratch_folder(path: Path) -> Path:
    """Return the folder of a state's temporary files: what a killed process leaves, the next run clears."""
    return path.with_suffix(".partial")


# --- the loop ---


@dataclass
class _Run:
    """One fold's training in this process."""

    training: Training
    fold: Fold
    path: Path
    pool: ThreadPoolExecutor
    bar: Any  # tqdm's

    def finish(self, state: State | None) -> State:
        """Train from a state to the end, then score the test part; return the finished state, which is written."""
        training, options = self.training, self.training.options
        shutil.rmtree(scratch_folder(self.path), ignore_errors=True)
        network = self._build()
        optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
        if state is None:
            state = State((), {}, {}, {}, {})
        else:
            network.load_state_dict(state.network)
            optimizer.load_state_dict(state.optimizer)
        while not is_over(state.history, options):
            state = self._run_epoch(network, optimizer, state)
            write_state(self.path, training.key, self.fold.number, state)
        network.load_state_dict(state.best)
        scores = {name: torch.from_numpy(values) for name, values in self._score(network).items()}
        state = State(state.history, state.best, {}, {}, scores)
        write_state(self.path, training.key, self.fold.number, state)
        shutil.rmtree(scratch_folder(self.path), ignore_errors=True)
        return state

    def _build(self) -> nn.Module:
        """Make the network on its device, its draws seeded."""
        torch.manual_seed(self._seed("build"))
        sample = self._order("sample")[: self.training.network.batch_size]
        network = self.training.network.build(
            self.training.network.inputs(torch.from_numpy(self.training.images.squares[sample]))
        )
        return network.to(self.training.options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _run_epoch(self, network: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> State:
        epoch = len(state.history)
        self._announce(state.history)
        torch.manual_seed(self._seed(epoch))
        train_loss = self._train(network, optimizer, epoch)
        if self.training.network.settles:
            settle_batch_norm(network, (self._inputs(squares) for _, squares in self._plain(self.fold.train)))
        valid_loss, valid_auroc = self._validate(network)
        if not (math.isfinite(train_loss) and math.isfinite(valid_loss)):
            raise UserError(
                f"training of '{self.training.category}', fold {self.fold.number}, diverged in epoch {epoch} (loss "
                f"{train_loss:g}, validation {valid_loss:g}): use a smaller learning rate than "
                f"{self.training.options.learning_rate:g}."
            )
        history = (*state.history, EpochRow(epoch, train_loss, valid_loss, valid_auroc))
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        best = tensors if best_epoch(history) == epoch else state.best
        return State(history, best, tensors, optimizer.state_dict(), {})

    def _train(self, network: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> float:
        """Go once through the training part; return the mean loss."""
        network.train()
        total = torch.zeros((), dtype=torch.float64, device=self.training.options.device)
        for numbers, squares in self._augmented(epoch):
            losses, _, _ = self._forward(network, squares, numbers)
            optimizer.zero_grad(set_to_none=True)
            losses.mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += losses.detach().double().sum()
            self.bar.update(len(numbers))
        return float(total) / len(self.fold.train)

    @torch.inference_mode()
    def _validate(self, network: nn.Module) -> tuple[float, float | None]:
        """Return mean loss and AUROC of the validation part."""
        network.eval()
        objective, losses, ranks = self.training.objective, [], []
        for numbers, squares in self._plain(self.fold.valid):
            each, outputs, inputs = self._forward(network, squares, numbers)
            losses.append(each.double().cpu().numpy())
            if objective.ranking is not None:
                ranks.append(objective.scores(outputs, inputs)[objective.ranking])
        loss = float(np.concatenate(losses).mean())
        if objective.ranking is None or not math.isfinite(loss):
            return loss, None
        from sklearn.metrics import roc_auc_score

        return loss, float(roc_auc_score(self.training.images.anomalous[self.fold.valid], np.concatenate(ranks)))

    @torch.inference_mode()
    def _score(self, network: nn.Module) -> dict[str, NDArray[np.float64]]:
        """Return the scores of the test part."""
        network.eval()
        parts = []
        for numbers, squares in self._plain(self.fold.test):
            _, outputs, inputs = self._forward(network, squares, numbers)
            parts.append(self.training.objective.scores(outputs, inputs))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _forward(
        self, network: nn.Module, squares: NDArray[np.uint8], numbers: Indices
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return losses (n,), outputs and inputs of a batch."""
        device, precision = self.training.options.device, self.training.options.precision
        inputs = self._inputs(squares)
        anomalous = torch.from_numpy(self.training.images.anomalous[numbers]).to(device, torch.float32)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            outputs = network(inputs)
        return self.training.objective.losses(outputs, inputs, anomalous), outputs, inputs

    def _inputs(self, squares: NDArray[np.uint8]) -> Tensor:
        on_device = torch.from_numpy(squares).to(self.training.options.device, non_blocking=True)
        return self.training.network.inputs(on_device).contiguous(memory_format=torch.channels_last)

    def _augmented(self, epoch: int) -> Iterator[tuple[Indices, NDArray[np.uint8]]]:
        """Yield the training part in the epoch's order, augmented in threads, a bounded number of batches ahead."""
        ahead: deque[tuple[Indices, list[Future[NDArray[np.uint8]]]]] = deque()
        for numbers in cut(self._order(epoch), self._batch_size):
            ahead.append((numbers, [self.pool.submit(self._view, int(i), epoch) for i in numbers]))
            if len(ahead) > LOOKAHEAD:
                yield _collected(*ahead.popleft())
        while ahead:
            yield _collected(*ahead.popleft())

    def _view(self, number: int, epoch: int) -> NDArray[np.uint8]:
        return self.training.augmenter(self.training.images.squares[number], self.training.images.names[number], epoch)

    def _plain(self, part: Indices) -> Iterator[tuple[Indices, NDArray[np.uint8]]]:
        """Yield a part in its own order, as it is."""
        for numbers in cut(part, self._batch_size):
            yield numbers, self.training.images.squares[numbers]

    @property
    def _batch_size(self) -> int:
        return self.training.options.batch_size or self.training.network.batch_size

    def _order(self, epoch: int | str) -> Indices:
        return np.random.default_rng(self._seed("order", epoch)).permutation(self.fold.train)

    def _seed(self, *what: int | str) -> int:
        return seed_of(self.training.options.seed, self.training.category, self.fold.number, *what)

    def _announce(self, history: Sequence[EpochRow]) -> None:
        """Begin an epoch's progress bar, with what came of the last one."""
        self.bar.reset(len(self.fold.train))
        self.bar.set_description(f"{self.training.category}, fold {self.fold.number}, epoch {len(history)}")
        if history:
            last = history[-1]
            auroc = "" if last.valid_auroc is None else f", AUROC {100 * last.valid_auroc:.1f}"
            best = f", best epoch {best_epoch(history)}"
            self.bar.set_postfix_str(f"validation loss {last.valid_loss:.4g}{auroc}{best}", refresh=False)


@torch.no_grad()
def settle_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set batch norm's running statistics to the means over batches of inputs, in place; nothing else is changed.

    Running statistics forget a tenth with every step. A network that starts at random and sees three batches in an
    epoch is far ahead of them: validation would judge, and early stopping end, a network that training has long left.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    for inputs in batches:
        network(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def seed_of(*parts: int | str) -> int:
    """Return a seed of 63 bits that follows from the parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1


def cut(numbers: Indices, batch_size: int) -> list[Indices]:
    """Cut into batches; a single image that is left over joins the last, since batch norm cannot train on one."""
    starts = list(range(0, len(numbers), batch_size))
    if len(starts) > 1 and len(numbers) - starts[-1] == 1:
        starts.pop()
    return np.split(numbers, starts[1:])


def _collected(numbers: Indices, jobs: Sequence[Future[NDArray[np.uint8]]]) -> tuple[Indices, NDArray[np.uint8]]:
    return numbers, np.stack([job.result() for job in jobs])


@contextmanager
def _modes(options: TrainingOptions) -> Iterator[None]:
    """Leave torch's generators as they were; no TF32 unless asked for; say what to do where the GPU is too small."""
    on_cuda = torch.device(options.device).type == "cuda"
    try:
        with (
            torch.random.fork_rng([torch.cuda.current_device()] if on_cuda else []),
            cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=options.precision == "tf32"),
        ):
            yield
    except torch.cuda.OutOfMemoryError:
        raise UserError(
            f"the GPU's memory does not hold a batch of {options.batch_size} images in training: use a smaller "
            "--batch-size."
        ) from None
