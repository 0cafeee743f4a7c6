"""Which epoch is the best, and when training ends."""

from gaussad_cli.training.state import EpochRow, best_epoch, is_over


def history(*values, auroc=True):
    return tuple(EpochRow(i, 0.0, 0.0 if auroc else v, v if auroc else None) for i, v in enumerate(values))


def test_the_best_epoch_has_the_highest_auroc_or_the_lowest_loss_and_comes_first():
    assert best_epoch(history(0.5, 0.9, 0.9, 0.7)) == 1
    assert best_epoch(history(0.5, 0.2, 0.2, 0.7, auroc=False)) == 1


def test_training_ends_when_patience_does_or_the_epochs():
    assert not is_over((), max_epochs=6, patience=3)
    assert not is_over(history(0.9, 0.8, 0.8), max_epochs=6, patience=3)
    assert is_over(history(0.9, 0.8, 0.8, 0.9), max_epochs=6, patience=3)  # as good is not better
    assert not is_over(history(0.1, 0.2, 0.3, 0.4, 0.5), max_epochs=6, patience=3)
    assert is_over(history(0.1, 0.2, 0.3, 0.4, 0.5, 0.6), max_epochs=6, patience=3)
