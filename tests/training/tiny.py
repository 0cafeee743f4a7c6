"""Networks that train in no time, and a training slow enough for the test to kill it."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import nn

from gaussad_cli.datasets.index import find_categories
from gaussad_cli.extraction.augment import Augmentation, read_rules
from gaussad_cli.training.autoencoder import autoencoder_training, unit_range
from gaussad_cli.training.classifier import classifier_training
from gaussad_cli.training.loop import FoldScores, train_folds
from gaussad_cli.training.task import TrainableNetwork, TrainingOptions

SIZE = 16


def classifier(pause: float = 0.0) -> TrainableNetwork:
    """One logit from 8 filters, with batch norm and dropout."""

    def build(_: torch.Tensor) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            Pause(pause),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(8, 1),
        )

    return TrainableNetwork(build, unit_range, {"tiny": "classifier"}, SIZE, batch_size=4)


def autoencoder() -> TrainableNetwork:
    """Half the size and back."""

    def build(_: torch.Tensor) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 12, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Sigmoid(),
        )

    return TrainableNetwork(build, unit_range, {"tiny": "autoencoder"}, SIZE, batch_size=4, settles=True)


class Pause(nn.Module):
    """Makes a network slow enough to be killed."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        return x


def options(**changes: object) -> TrainingOptions:
    """Two epochs on one thread."""
    return TrainingOptions(**{"max_epochs": 2, "workers": 1, "learning_rate": 0.01, **changes})  # type: ignore[arg-type]


def train(kind: str, data: Path, folder: Path, pause: float = 0.0, **changes: object) -> list[FoldScores]:
    """Train on the first category of a data set."""
    torch.set_num_threads(1)
    (category, *_) = find_categories(data)
    augmentation = Augmentation(read_rules(None))
    if kind == "classifier":
        return train_folds(classifier_training(category, classifier(pause), augmentation, options(**changes), folder))
    return train_folds(autoencoder_training(category, autoencoder(), augmentation, options(**changes), folder))
