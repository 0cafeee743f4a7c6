"""The autoencoder: shapes, folds, scores, and no noise."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold

from gaussad_cli.errors import UserError
from gaussad_cli.extraction.augment import Augmentation, read_rules
from gaussad_cli.training.autoencoder import (
    Reconstruction,
    autoencoder_folds,
    error_maps,
    resnet_autoencoder,
    without_noise,
)
from gaussad_cli.training.components import cca_score
from tests.training import tiny


def test_the_network_is_a_resnet_18_a_bottleneck_of_32_and_the_way_back():
    network = resnet_autoencoder()
    assert (network.input_size, network.batch_size) == (224, 64)
    model = network.build(torch.zeros(1)).eval()
    image = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        assert model.encoder(image).shape == (1, 32, 1, 1)
        output = model(image)
    assert output.shape == image.shape
    assert output.min() >= 0
    assert output.max() <= 1
    with pytest.raises(UserError, match="multiple of 32"):
        resnet_autoencoder(100)


def test_folds_are_every_other_methods_and_the_held_out_fifth_validates():
    folds = autoencoder_folds(23, 9)
    for fold, (train, held_out) in zip(folds, KFold(5, shuffle=True, random_state=0).split(np.zeros(23)), strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.valid, held_out)
        np.testing.assert_array_equal(fold.test, np.arange(23, 32))


def test_scores_are_mean_and_connected_components_of_the_squared_error():
    rng = np.random.default_rng(0)
    outputs, inputs = (torch.from_numpy(rng.random((2, 3, 8, 8), np.float32)) for _ in range(2))
    maps = ((outputs - inputs) ** 2).mean(1).numpy()
    np.testing.assert_allclose(error_maps(outputs, inputs), maps, rtol=1e-6)
    scores = Reconstruction(0.05).scores(outputs, inputs)
    np.testing.assert_allclose(scores["map_mean"], maps.mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(scores["cca"], [cca_score(error, 0.05) for error in maps], rtol=1e-6)
    assert "cca" not in Reconstruction(None).scores(outputs, inputs)


def test_noise_is_left_out_and_all_else_stays():
    paper = Augmentation(read_rules(None), seed=5)
    changed = without_noise(paper, 7)
    assert changed.seed == 7
    for name, rules in paper.rules.items():
        ours = vars(changed.rules[name])
        assert ours.pop("noise") == 0
        assert ours == {key: value for key, value in vars(rules).items() if key != "noise"}


def test_it_learns_to_reproduce_normal_images(tmp_path, data):
    folds = tiny.train("autoencoder", data, tmp_path, max_epochs=12, patience=12, learning_rate=0.02)
    for fold in folds:
        assert fold.history[-1].valid_loss < 0.5 * fold.history[0].valid_loss
        assert fold.best_epoch == min(fold.history, key=lambda row: row.valid_loss).epoch
        assert len(fold.names) == 18
        assert all(name.startswith("test/") for name in fold.names)
