import numpy as np
import pytest

from gaussad_cli.gaussian.compression import Compression, component_range

EIGENVALUES = np.array([8.0, 1.0, 0.5, 0.3, 0.2])  # cumulative shares .8 .9 .95 .98 1


@pytest.mark.parametrize(
    ("mode", "var", "expected"),
    [
        ("all", None, (0, 5)),
        ("pca", 0.5, (0, 1)),
        ("pca", 0.85, (0, 2)),
        ("pca", 0.97, (0, 4)),
        ("npca", 0.03, (2, 5)),
        ("npca", 0.15, (0, 5)),
        ("npca", 0.5, (0, 5)),
        ("npca", 0.001, (3, 5)),
    ],
)
def test_pca_and_npca_keep_the_component_that_straddles_the_threshold(mode, var, expected):
    assert component_range(EIGENVALUES, Compression(mode, var)) == expected


def test_no_component_gives_an_empty_range():
    assert component_range(np.array([]), Compression("npca", 0.01)) == (0, 0)


@pytest.mark.parametrize(
    ("mode", "var"), [("all", 0.5), ("pca", None), ("npca", 0.0), ("pca", 1.0), ("pca", float("nan"))]
)
def test_a_share_goes_with_pca_and_npca_and_lies_between_0_and_1(mode, var):
    with pytest.raises(ValueError, match="var"):
        Compression(mode, var)
