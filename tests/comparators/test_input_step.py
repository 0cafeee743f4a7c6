"""The step on the input against finite differences in float64, what it costs, and how its size is chosen."""

import dataclasses
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from gaussad_cli.backbones.folding import fold_batch_norm
from gaussad_cli.backbones.network import LevelNetwork, StagedNetwork, create_model, normalise, tap_levels
from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.comparators.input_step import STEPS, choose_step, distances_by_step, stepped_distances
from gaussad_cli.comparators.ood import draw_validation
from gaussad_cli.errors import UserError
from gaussad_cli.gaussian.distances import mahalanobis, project
from gaussad_cli.gaussian.shrinkage import shrink
from gaussad_cli.gaussian.spectrum import fit_spectrum

# Channels of unlike contrast, or a step in the wrong unit could pass for the right one.
BACKBONE = dataclasses.replace(find_backbone("resnet-18"), mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4))


def random_network() -> StagedNetwork:
    """Three levels of 5, 8 and 6 features, smooth so that finite differences tell its gradient."""
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "conv1": nn.Conv2d(3, 5, 3),
            "bn1": nn.Tanh(),
            "act1": nn.Identity(),
            "maxpool": nn.AvgPool2d(2),
            "layer1": nn.Sequential(nn.Conv2d(5, 8, 3, padding=1), nn.Softplus()),
            "layer2": nn.Sequential(nn.Conv2d(8, 6, 2), nn.Tanh()),
        }
    )
    return StagedNetwork(model, BACKBONE, (1, 2, 3)).eval()


def draw_squares(m: int, size: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (m, size, size, 3), dtype=np.uint8)


def features_of(network: LevelNetwork, squares: np.ndarray) -> dict[int, np.ndarray]:
    with torch.no_grad():
        features = network(normalise(torch.from_numpy(squares), BACKBONE))
    return {level: values.numpy() for level, values in zip(network.levels, features, strict=True)}


def fitted(network: LevelNetwork, squares: np.ndarray) -> dict:
    return {level: fit_spectrum(features) for level, features in features_of(network, squares).items()}


def distances_of(spectrum, features):
    return mahalanobis(project(spectrum, features), spectrum, shrink(spectrum))


def plain_distances(network, spectra, squares):
    features = features_of(network, squares)
    return np.stack([distances_of(spectrum, features[level]) for level, spectrum in spectra.items()], axis=1)


@pytest.fixture(name="network")
def _network():
    return random_network()


@pytest.fixture(name="spectra", params=[40, 4], ids=["n > D", "n < D"])
def _spectra(request, network):
    return fitted(network, draw_squares(request.param, seed=1))


def test_the_step_is_against_the_sign_of_finite_differences_and_in_units_of_rgb(network, spectra):
    """Everything in float64 on RGB in [0, 1], where the step is epsilon itself."""
    squares, epsilon = draw_squares(3), 0.01
    exact = deepcopy(network).double()
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (BACKBONE.mean, BACKBONE.std))

    def distance(rgb, level):
        maps = list(exact.feature_maps(torch.from_numpy((rgb - mean) / std)))
        return distances_of(spectra[level], maps[level - 1].detach().mean((2, 3)).numpy())

    expected = np.empty((3, 3))
    for image, square in enumerate(squares):
        rgb = square.transpose(2, 0, 1) / 255
        nudges = 1e-4 * np.eye(rgb.size).reshape(-1, *rgb.shape)
        for level in (1, 2, 3):
            slope = distance(rgb + nudges, level) - distance(rgb - nudges, level)
            expected[image, level - 1] = distance((rgb - epsilon * np.sign(slope).reshape(rgb.shape))[None], level)[0]
    stepped = stepped_distances(network, BACKBONE, spectra, squares, epsilon)
    np.testing.assert_allclose(stepped, expected, rtol=1e-4)
    assert (np.abs(stepped / plain_distances(network, spectra, squares) - 1) > 1e-3).all()


def test_a_step_of_zero_gives_the_plain_distances(network, spectra):
    squares = draw_squares(5)
    stepped = stepped_distances(network, BACKBONE, spectra, squares, 0.0)
    np.testing.assert_allclose(stepped, plain_distances(network, spectra, squares), rtol=1e-4)


def test_a_tiny_step_is_all_but_a_step_of_zero(network, spectra):
    by_step = distances_by_step(network, BACKBONE, spectra, draw_squares(5), [0.0, 1e-7])
    np.testing.assert_allclose(by_step[1e-7], by_step[0.0], rtol=1e-4)


def test_small_steps_bring_images_nearer_the_further_the_larger_they_are(network, spectra):
    by_step = distances_by_step(network, BACKBONE, spectra, draw_squares(50), [0.0, 1e-4, 2e-4])
    for larger, smaller in ((1e-4, 0.0), (2e-4, 1e-4)):
        assert (by_step[larger] < by_step[smaller]).mean() > 0.95


def test_steps_together_give_what_each_gives_alone(network, spectra):
    squares = draw_squares(4)
    by_step = distances_by_step(network, BACKBONE, spectra, squares, STEPS)
    assert tuple(by_step) == STEPS
    for epsilon in (0.0, 0.002):
        alone = stepped_distances(network, BACKBONE, spectra, squares, epsilon)
        np.testing.assert_array_equal(by_step[epsilon], alone)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_and_neighbours_do_not_matter(network, spectra, batch_size):
    squares = draw_squares(7)
    expected = stepped_distances(network, BACKBONE, spectra, squares, 0.01)
    stepped = stepped_distances(network, BACKBONE, spectra, squares[::-1].copy(), 0.01, batch_size)
    np.testing.assert_allclose(stepped[::-1], expected, rtol=1e-4)


def test_no_images_give_no_distances(network, spectra):
    assert stepped_distances(network, BACKBONE, spectra, draw_squares(0), 0.01).shape == (0, 3)


def test_a_level_without_variance_is_nan_and_leaves_the_others_as_they_are(network, spectra):
    squares = draw_squares(4)
    expected = stepped_distances(network, BACKBONE, spectra, squares, 0.01)
    flat = {**spectra, 2: fit_spectrum(np.ones((5, 8), dtype=np.float32))}
    stepped = stepped_distances(network, BACKBONE, flat, squares, 0.01)
    assert np.isnan(stepped[:, 1]).all()
    np.testing.assert_array_equal(stepped[:, [0, 2]], expected[:, [0, 2]])


@pytest.mark.filterwarnings("error")
def test_an_image_at_the_mean_stays_there(network):
    spectrum = fitted(network, draw_squares(20, seed=1))[1]
    square = draw_squares(1)
    at_image = dataclasses.replace(
        spectrum, mean=features_of(network, square)[1][0].astype(float), mean_remainder=np.zeros(5)
    )
    assert stepped_distances(network, BACKBONE, {1: at_image}, square, 0.1)[0, 0] < 1e-4


def test_columns_are_in_the_order_of_the_spectra(network, spectra):
    squares = draw_squares(3)
    expected = stepped_distances(network, BACKBONE, spectra, squares, 0.01)
    turned = {level: spectra[level] for level in (3, 1)}
    stepped = stepped_distances(network, BACKBONE, turned, squares, 0.01)
    np.testing.assert_allclose(stepped, expected[:, [2, 0]], rtol=1e-6)


def test_every_pass_ends_at_the_level_it_is_for(network, spectra):
    runs = [0, 0, 0]

    def count(stage):
        def hook(*_):
            runs[stage] += 1

        return hook

    for number, stage in enumerate(network.stages):
        stage.register_forward_hook(count(number))
    wanted = {level: spectra[level] for level in (1, 2)}
    distances_by_step(network, BACKBONE, wanted, draw_squares(3), [0.0, 0.001, 0.01])
    # Level 1: all levels' pass, then two steps for each of two levels; level 2: two steps for itself only.
    assert runs == [1 + 2 * 2, 1 + 2, 0]


def test_the_weights_are_frozen_and_gather_no_gradient(network, spectra):
    before = deepcopy(network.state_dict())
    stepped_distances(network, BACKBONE, spectra, draw_squares(2), 0.01)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in network.parameters())
    assert network.levels == (1, 2, 3)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-lite0", "resnet-18"])
def test_real_architectures_with_folded_batch_norm_come_nearer(name):
    """Their activations work in place, which must not spoil the gradient."""
    backbone = find_backbone(name)
    torch.manual_seed(0)
    network = tap_levels(create_model(backbone), backbone, backbone.paddings[-1], (1, 3, 5))
    fold_batch_norm(network)
    with torch.no_grad():
        features = network(normalise(torch.from_numpy(draw_squares(8, 64, seed=1)), backbone))
    spectra = {level: fit_spectrum(values.numpy()) for level, values in zip(network.levels, features, strict=True)}
    by_step = distances_by_step(network, backbone, spectra, draw_squares(4, 64), [0.0, 1e-4])
    assert (by_step[1e-4] < by_step[0.0]).mean() > 0.9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_the_cpu(network, spectra):
    squares = draw_squares(5)
    expected = stepped_distances(network, BACKBONE, spectra, squares, 0.01)
    np.testing.assert_allclose(
        stepped_distances(network, BACKBONE, spectra, squares, 0.01, device="cuda"), expected, rtol=1e-3
    )


@pytest.mark.parametrize(("epsilon", "level"), [(-0.01, 1), (np.nan, 1), (np.inf, 1), (0.01, 4)])
def test_steps_and_levels_that_make_no_sense_are_errors(network, spectra, epsilon, level):
    with pytest.raises(ValueError, match="need steps"):
        stepped_distances(network, BACKBONE, {level: spectra[1]}, draw_squares(1), epsilon)


def test_too_little_gpu_memory_is_an_error_with_a_remedy(network, spectra, monkeypatch):
    def fail(self, images):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(StagedNetwork, "feature_maps", fail)
    with pytest.raises(UserError, match=r"2 images of 8 pixels at a time.*--batch-size"):
        stepped_distances(network, BACKBONE, spectra, draw_squares(2), 0.01, batch_size=2)


# --- choosing the step ---


def candidates_of(signal: dict[float, float], m: int = 200) -> tuple[dict[float, np.ndarray], np.ndarray]:
    """Distances (m, 3) per step, of which the anomalies' are larger by the signal; the noise is that of each step."""
    anomalous = np.arange(m) % 3 > 0
    return {
        epsilon: 10 + np.random.default_rng(number).standard_normal((m, 3)) + size * anomalous[:, None]
        for number, (epsilon, size) in enumerate(signal.items())
    }, anomalous


def test_the_step_that_tells_anomalies_best_is_chosen():
    by_step, anomalous = candidates_of({0.0: 0.2, 0.001: 2.0, 0.01: 0.4})
    assert choose_step(list(by_step), by_step, anomalous, share=0.3) == 0.001


def test_only_candidates_are_chosen_from():
    by_step, anomalous = candidates_of({0.0: 0.2, 0.001: 2.0, 0.01: 0.8})
    assert choose_step([0.0, 0.01], by_step, anomalous, share=0.3) == 0.01


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_steps_the_smallest_is_chosen(order):
    by_step, anomalous = candidates_of({0.001: 1.0})
    same = dict.fromkeys((0.001, 0.002, 0.005), by_step[0.001])
    assert choose_step(list(same)[::order], same, anomalous) == 0.001


@pytest.mark.parametrize("seed", [0, 1])
def test_only_validation_images_choose(seed):
    by_step, anomalous = candidates_of({0.0: 0.5, 0.001: 0.5, 0.01: 0.5}, m=60)
    chosen = choose_step(list(by_step), by_step, anomalous, 0.2, seed)
    tested = ~draw_validation(anomalous, 0.2, seed)
    spoilt = {epsilon: distances.copy() for epsilon, distances in by_step.items()}
    for epsilon, distances in spoilt.items():
        distances[tested] += 100 * anomalous[tested, None] * (epsilon != chosen)
    assert choose_step(list(by_step), spoilt, anomalous, 0.2, seed) == chosen


def test_images_of_the_fit_do_not_choose():
    """Many levels of noise separate the images they are weighted on, and no others."""
    anomalous = np.arange(60) % 2 == 0
    noise = np.random.default_rng(0).standard_normal((60, 100))
    signal = np.random.default_rng(1).standard_normal((60, 1)) + anomalous[:, None]
    assert choose_step([0.0, 0.01], {0.0: noise, 0.01: signal}, anomalous, share=0.9) == 0.01


@pytest.mark.parametrize("anomalies", [0, 1, 2, 18, 19, 20])
def test_too_few_validation_images_choose_the_smallest_step(anomalies):
    by_step, _ = candidates_of({0.01: 9.0, 0.001: 0.0}, m=20)
    assert choose_step([0.01, 0.001], by_step, np.arange(20) < anomalies) == 0.001


def test_a_level_that_is_undefined_does_not_stop_the_choice():
    by_step, anomalous = candidates_of({0.0: 0.2, 0.001: 2.0})
    undefined = {epsilon: np.column_stack([distances, np.full(200, np.nan)]) for epsilon, distances in by_step.items()}
    assert choose_step([0.0, 0.001], undefined, anomalous, share=0.3) == 0.001
