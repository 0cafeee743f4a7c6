"""Fully supervised fine-tuning: the protocol's folds, weights that lack tensors, and that it learns."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from gaussad_cli.backbones.registry import find_backbone
from gaussad_cli.backbones.weights import find_checkpoint
from gaussad_cli.errors import UserError
from gaussad_cli.training.classifier import (
    build_classifier,
    classifier_folds,
    create_classifier,
    is_folded,
    pretrained_classifier,
    unfold_batch_norm,
)
from tests.training import tiny


def test_folds_are_the_protocols():
    anomalous = np.repeat([False, True, False, True], [40, 9, 11, 13])
    folds = classifier_folds(anomalous)
    splitter = StratifiedKFold(n_splits=5, shuffle=True, random_state=0)
    parts = [test for _, test in splitter.split(np.zeros(73), anomalous)]
    for i, fold in enumerate(folds):
        np.testing.assert_array_equal(fold.test, parts[i])
        np.testing.assert_array_equal(fold.valid, parts[(i + 4) % 5])
        assert set(fold.train) | set(fold.valid) | set(fold.test) == set(range(73))
        assert len(fold.train) + len(fold.valid) + len(fold.test) == 73  # disjoint
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(73))


def test_too_few_of_a_class_is_an_error():
    with pytest.raises(UserError, match="4 anomalous images"):
        classifier_folds(np.repeat([False, True], [40, 4]))


def test_it_learns_what_is_easy(tmp_path, data):
    folds = tiny.train("classifier", data, tmp_path, max_epochs=25, patience=25, learning_rate=0.05)
    for fold in folds:
        assert fold.best_epoch == max(fold.history, key=lambda row: row.valid_auroc).epoch
    aurocs = [roc_auc_score(fold.anomalous, fold.scores["logit"]) for fold in folds]
    assert np.mean(aurocs) > 0.9
    names = [name for fold in folds for name in fold.names]
    assert len(names) == len(set(names)) == 30


def test_a_file_that_lacks_tensors_needs_a_word_and_what_is_fresh_is_listed(weights):
    backbone = find_backbone("resnet-18")
    checkpoint = find_checkpoint(backbone, weights / "resnet18-levels1-4.pth")
    with pytest.raises(UserError, match=r"lacks 4 tensors of resnet-18.*--fresh"):
        pretrained_classifier(backbone, "native", checkpoint)
    network = pretrained_classifier(backbone, "native", checkpoint, fresh=True)
    assert set(network.fresh) == {f"layer4.{block}.conv{k}.weight" for block in (0, 1) for k in (1, 2)}
    torch.manual_seed(0)
    one = network.build(torch.zeros(2, 3, 64, 64)).state_dict()
    torch.manual_seed(1)
    other = network.build(torch.zeros(2, 3, 64, 64)).state_dict()
    differ = {name for name in one if one[name].dtype.is_floating_point and not torch.equal(one[name], other[name])}
    assert {*network.fresh, "fc.weight"} <= differ
    assert not any(
        name.startswith(("conv1", "layer1", "layer2", "layer3")) and name.endswith("conv1.weight") for name in differ
    )


def test_unfolding_batch_norm_leaves_the_network_as_it_was(weights):
    backbone = find_backbone("resnet-18")
    checkpoint = find_checkpoint(backbone, weights / "resnet18-levels1-4.pth")
    torch.manual_seed(0)
    sample = torch.rand(4, 3, 64, 64)
    model = create_classifier(backbone)
    own = model.state_dict()
    model.load_state_dict({**own, **{name: t for name, t in checkpoint.tensors.items() if not name.startswith("fc.")}})
    assert is_folded(model)
    before = model.eval()(sample)
    unfold_batch_norm(model, sample)
    assert not is_folded(model)
    torch.testing.assert_close(model.eval()(sample), before, rtol=1e-3, atol=1e-4)
    # and in training, where batch norm takes the batch's statistics, it starts close to that
    torch.testing.assert_close(model.train()(sample), before, rtol=0.05, atol=0.05)


def test_a_pretrained_trunk_gives_its_own_features():
    backbone = find_backbone("efficientnet-lite0")
    checkpoint = find_checkpoint(backbone, None)
    model = build_classifier(backbone, "tf", checkpoint, torch.zeros(1, 3, 64, 64)).eval()
    import timm

    original = timm.create_model(backbone.timm_name, pretrained=False).eval()
    from gaussad_cli.backbones.weights import load_levels

    load_levels(original, backbone, checkpoint, range(1, 10))
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.forward_features(image), original.forward_features(image))
    assert model(image).shape == (1, 1)
