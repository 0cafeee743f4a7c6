"""Which rows and variants of two folders are set beside each other."""

import numpy as np
import pytest

from gaussad_cli.errors import UserError
from tests.compare.toy import compared, rows


def test_the_variant_that_is_in_both_is_compared():
    tf, paper = rows(), rows(padding="paper", key="k2")
    found = compared([tf, paper], [paper])
    assert [(p.a.key, p.b.key) for p in found.pairs] == [("k2", "k2")]
    assert (len(found.only_a), len(found.only_b)) == (10, 0)
    renamed = compared([tf, paper], [rows(padding="paper", key="k2", weights="same file")])
    assert [(p.a.key, p.b.key) for p in renamed.pairs] == [("k2", "k2")]


def test_of_several_variants_that_are_in_neither_one_must_be_chosen():
    a, b = [rows(), rows(key="k2")], [rows(key="m1"), rows(key="m2")]
    with pytest.raises(UserError, match="several variants") as error:
        compared(a, b)
    for part in ("net", "key k1", "key k2", "key m1", "key m2", "--key-a and --key-b"):
        assert part in str(error.value)
    with pytest.raises(UserError, match=r"--key-b KEY\.$"):
        compared(a, b, key_a="k2")
    found = compared(a, b, key_a="k2", key_b="m1")
    assert [(p.a.key, p.b.key) for p in found.pairs] == [("k2", "m1")]
    with pytest.raises(UserError, match="no key that begins with 'x'"):
        compared(a, b, key_a="x")


def test_two_variants_of_one_folder_are_compared_by_their_keys_and_other_networks_stay():
    mine = [rows(), rows((("bottle", 0.8), ("screw", 0.4)), key="k2"), rows(backbone="other", key="o")]
    found = compared(mine, mine, key_a="k1", key_b="k2")
    assert [(p.network, p.a.key, p.b.key) for p in found.pairs] == [("net", "k1", "k2"), ("other", "o", "o")]
    assert found.beyond(0)["difference"].tolist() == pytest.approx([-10])


def test_trained_networks_of_one_backbone_are_told_apart_by_their_score():
    a = [rows(epochs=np.nan, score=score, key=f"a-{score}") for score in ("cca", "classifier")]
    b = [rows(epochs=np.nan, score=score, key=f"b-{score}") for score in ("cca", "classifier")]
    found = compared(a, b)
    assert [(p.network, p.a.key, p.b.key) for p in found.pairs] == [
        ("net, cca", "a-cca", "b-cca"),
        ("net, classifier", "a-classifier", "b-classifier"),
    ]


def test_only_wanted_backbones_and_scores_are_compared():
    mine = [rows(), rows(score="sed"), rows(backbone="other")]
    found = compared(mine, mine, backbones=["net"], scores=["sed"])
    assert (set(found.matched["network"]), set(found.matched["score"])) == ({"net"}, {"sed"})
    assert (len(found.only_a), len(found.only_b)) == (0, 0)
    with pytest.raises(UserError, match=r"--score sedd is in neither folder\. Did you mean sed\?"):
        compared(mine, mine, scores=["sedd"])
    with pytest.raises(UserError, match=r"nothing was measured in both: A holds net .* B holds other "):
        compared([rows()], [rows(backbone="other")])


def test_a_row_that_is_there_twice_is_a_users_error():
    with pytest.raises(UserError, match="the same row of net twice"):
        compared([rows(), rows()], [rows()])
