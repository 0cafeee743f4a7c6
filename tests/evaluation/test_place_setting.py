"""A setting of places says of itself what is not the default, and is read back from that to the bit."""

import itertools

import pytest

from gaussad_cli.evaluation.place_setting import PlaceSetting, read_place_setting
from gaussad_cli.gaussian.compression import Compression
from gaussad_cli.gaussian.places import PLACES, TARGETS, PlaceOptions

SETTINGS = [
    PlaceSetting(*values)
    for values in itertools.product(
        TARGETS, (PLACES.intensity, None, 0.0, 1 / 3, 1e-12, 1.0), (None, 7), (0.0, 0.7, 1 / 7, 4.0)
    )
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_what_a_setting_says_of_itself_is_read_back_after_any_compression(setting):
    for mode in ("all", "pca", "npca"):
        assert read_place_setting(f"{mode} {setting}") == setting


def test_no_two_settings_say_the_same():
    assert len({str(setting) for setting in SETTINGS}) == len(SETTINGS)


def test_the_default_says_nothing_and_is_that_of_the_core():
    assert str(PlaceSetting()) == ""
    assert read_place_setting("") == PlaceSetting()
    assert PlaceSetting().options(PLACES.compression) == PLACES


def test_every_part_reaches_the_fit():
    some = Compression("pca", 0.9)
    assert PlaceSetting("identity", 0.3, 7, 1.0).options(some) == PlaceOptions(some, 7, "identity", 0.3)
