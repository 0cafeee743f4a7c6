"""One resumable training loop for every comparator that is trained.

After each epoch, everything that the next epoch depends on is written to the fold's state file: the network, Adam's
moments, the best network so far, and the history, from which patience follows. No random generator runs on from one
epoch to the next: the order of the images, their augmentation and the network's own draws (dropout) follow from the
seed, the category, the fold and the epoch. A run that was killed at any moment therefore continues after its last whole
epoch, and on a CPU ends with the same bits as an uninterrupted run with the same number of threads (another number of
threads adds up in another order). On CUDA some sums have no fixed order, and the last digits may differ.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.backends import cudnn
from tqdm import tqdm

from gaussad_cli.errors import UserError, interruptible
from gaussad_cli.training.batches import Batch, FoldBatches
from gaussad_cli.training.state import EpochRow, FoldState, best_epoch, is_over, read_state, scratch_folder, write_state
from gaussad_cli.training.task import CategoryTraining, FoldSplit, Indices


@dataclass(frozen=True)
class FoldScores:
    """The outcome of a fold.

    Attributes
    ----------
    fold : number, from 0
    n_train : number of images that the network was trained on
    names, anomalous : of the test images
    scores : name -> (m,), one per test image, by the best epoch's network
    history : all epochs
    best_epoch : number of the epoch whose network scored
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


def train_folds(training: CategoryTraining) -> list[FoldScores]:
    """Train and score all folds of a category; a finished fold is only read.

    Raises
    ------
    UserError
        If training diverges, the GPU's memory does not hold a batch, or the states cannot be written.
    Interrupted
        On Ctrl-C; the message says how to continue.
    """
    training.write_recipe()
    with interruptible(
        f"interrupted in category '{training.category}'. Every finished epoch is kept in {training.folder}: run the "
        "same command again to continue."
    ):
        return [_train_fold(training, fold) for fold in training.folds]


def _train_fold(training: CategoryTraining, fold: FoldSplit) -> FoldScores:
    path = training.folder / f"fold_{fold.number}.pt"
    state = read_state(path, training.key, fold.number) or FoldState()
    if not state.scores:
        state = _finish(training, fold, path, state)
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


def _finish(training: CategoryTraining, fold: FoldSplit, path: Path, state: FoldState) -> FoldState:
    """Train from a state to the end, and write the state after every epoch; return the finished state."""
    shutil.rmtree(scratch_folder(path), ignore_errors=True)
    with (
        _torch_settings(training),
        ThreadPoolExecutor(training.options.workers) as pool,
        tqdm(unit="img", disable=None, dynamic_ncols=True) as bar,
    ):
        for reached in _FoldRun(training, fold, FoldBatches(training, fold, pool), bar).states(state):
            write_state(path, training.key, fold.number, reached)
            state = reached
    shutil.rmtree(scratch_folder(path), ignore_errors=True)
    return state


@dataclass
class _FoldRun:
    """The training of one fold in this process."""

    training: CategoryTraining
    fold: FoldSplit
    batches: FoldBatches
    bar: Any  # tqdm's
    network: nn.Module = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.batches.seed("build"))
        trainable, device = self.training.network, self.training.options.device
        network = trainable.build(trainable.inputs(torch.from_numpy(self.batches.sample())))
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.training.options.learning_rate)

    def states(self, state: FoldState) -> Iterator[FoldState]:
        """Train from a state to the end; yield the state after every epoch, and last the finished one."""
        options = self.training.options
        if state.history:
            self.network.load_state_dict(state.network)
            self.optimizer.load_state_dict(state.optimizer)
        while not is_over(state.history, options.max_epochs, options.patience):
            state = self._run_epoch(state)
            yield state
        self.network.load_state_dict(state.best)
        yield FoldState(state.history, state.best, scores=self._score())

    def _run_epoch(self, state: FoldState) -> FoldState:
        epoch = len(state.history)
        self._announce(state.history)
        torch.manual_seed(self.batches.seed(epoch))
        train_loss = self._train(epoch)
        if self.training.network.settles:
            batches = self.batches.plain(self.fold.train)
            settle_batch_norm(self.network, (self._inputs(squares) for _, squares in batches))
        valid_loss, valid_auroc = self._validate()
        if not (math.isfinite(train_loss) and math.isfinite(valid_loss)):
            raise UserError(
                f"training of '{self.training.category}', fold {self.fold.number}, diverged in epoch {epoch} (loss "
                f"{train_loss:g}, validation {valid_loss:g}): use a smaller learning rate than "
                f"{self.training.options.learning_rate:g}."
            )
        history = (*state.history, EpochRow(epoch, train_loss, valid_loss, valid_auroc))
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}
        best = tensors if best_epoch(history) == epoch else state.best
        return FoldState(history, best, tensors, self.optimizer.state_dict())

    def _train(self, epoch: int) -> float:
        """Train on every image of the training part once; return the mean loss."""
        self.network.train()
        total = torch.zeros((), dtype=torch.float64, device=self.training.options.device)
        for batch in self.batches.augmented(epoch):
            losses, _, _ = self._forward(batch)
            self.optimizer.zero_grad(set_to_none=True)
            losses.mean().backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += losses.detach().double().sum()
            self.bar.update(len(losses))
        return float(total) / len(self.fold.train)

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float | None]:
        """Return the mean loss and, if it ranks the epochs, the AUROC of the validation part."""
        self.network.eval()
        objective, losses, ranks = self.training.objective, [], []
        for batch in self.batches.plain(self.fold.valid):
            of_batch, outputs, inputs = self._forward(batch)
            losses.append(of_batch.double().cpu().numpy())
            if objective.ranking is not None:
                ranks.append(objective.scores(outputs, inputs)[objective.ranking])
        loss = float(np.concatenate(losses).mean())
        if objective.ranking is None or not math.isfinite(loss):
            return loss, None
        from sklearn.metrics import roc_auc_score

        return loss, float(roc_auc_score(self.training.images.anomalous[self.fold.valid], np.concatenate(ranks)))

    @torch.inference_mode()
    def _score(self) -> dict[str, Tensor]:
        """Return the scores (m,) float64 of the test part."""
        self.network.eval()
        parts = []
        for batch in self.batches.plain(self.fold.test):
            _, outputs, inputs = self._forward(batch)
            parts.append(self.training.objective.scores(outputs, inputs))
        return {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return losses (n,), outputs and inputs of a batch."""
        numbers, squares = batch
        device, inputs = self.training.options.device, self._inputs(squares)
        with torch.autocast(torch.device(device).type, torch.bfloat16, self.training.options.precision == "bf16"):
            outputs = self.network(inputs)
        return self.training.objective.losses(outputs, inputs, self._labels(numbers)), outputs, inputs

    def _labels(self, numbers: Indices) -> Tensor:
        return torch.from_numpy(self.training.images.anomalous[numbers]).to(self.training.options.device, torch.float32)

    def _inputs(self, squares: NDArray[np.uint8]) -> Tensor:
        on_device = torch.from_numpy(squares).to(self.training.options.device, non_blocking=True)
        return self.training.network.inputs(on_device).contiguous(memory_format=torch.channels_last)

    def _announce(self, history: Sequence[EpochRow]) -> None:
        """Begin an epoch's progress bar, which shows the result of the epoch before."""
        self.bar.reset(len(self.fold.train))
        self.bar.set_description(f"{self.training.category}, fold {self.fold.number}, epoch {len(history)}")
        if history:
            last = history[-1]
            auroc = "" if last.valid_auroc is None else f", AUROC {100 * last.valid_auroc:.1f}"
            best = f", best epoch {best_epoch(history)}"
            self.bar.set_postfix_str(f"validation loss {last.valid_loss:.4g}{auroc}{best}", refresh=False)


@torch.no_grad()
def settle_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set batch norm's running statistics to their means over batches of inputs, in place; nothing else changes.

    Running statistics replace a tenth of themselves with every step. In a network that starts at random and sees three
    batches per epoch they lag far behind: validation would judge, and early stopping end, a network that training has
    long left behind.
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


@contextmanager
def _torch_settings(training: CategoryTraining) -> Iterator[None]:
    """Keep torch's generators as they were, allow TF32 only if asked for, and explain a lack of GPU memory."""
    device, precision = torch.device(training.options.device), training.options.precision
    try:
        with (
            torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else []),
            cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=precision == "tf32"),
        ):
            yield
    except torch.cuda.OutOfMemoryError:
        raise UserError(
            f"the GPU's memory does not hold a batch of {training.batch_size} images in training: use a smaller "
            "--batch-size."
        ) from None
