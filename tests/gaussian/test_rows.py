"""An image's distance is a function of its own row, to the bit, whatever kernel BLAS takes."""

import os
import platform
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussad_cli.gaussian.rows import BLOCK, mean_of, times, weighted_sums
from tests.conftest import ROOT

KERNELS = {
    "x86_64": ("SkylakeX", "Haswell", "Nehalem"),
    "aarch64": ("ARMV8", "NEOVERSEN1", "CORTEXA57"),
}


@pytest.mark.parametrize("kernel", ["", *KERNELS.get(platform.machine(), ())])
def test_an_image_has_the_same_distance_alone_and_in_any_company(kernel):
    own = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE" or not kernel}
    chosen = {**own, "OPENBLAS_CORETYPE": kernel} if kernel else own
    program = [sys.executable, "-m", "tests.gaussian.company"]
    run = subprocess.run(program, env=chosen, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode == -signal.SIGILL:
        pytest.skip(f"this processor does not have what the kernel {kernel} needs")
    assert run.returncode == 0, run.stderr


@settings(max_examples=50, deadline=None)
@given(m=st.integers(0, 2 * BLOCK + 1), dim=st.integers(1, 70), r=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_products_are_numpys(m, dim, r, seed):
    rng = np.random.default_rng(seed)
    rows, matrix = rng.standard_normal((m, dim)), rng.standard_normal((dim, r))
    np.testing.assert_allclose(times(rows, matrix), rows @ matrix, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(weighted_sums(rows, matrix[:, 0]), rows @ matrix[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("m", [0, 1, 5])
def test_means_are_numpys(m):
    columns = list(np.random.default_rng(0).standard_normal((9, m)))
    np.testing.assert_allclose(mean_of(columns), np.mean(columns, axis=0), rtol=1e-14)
