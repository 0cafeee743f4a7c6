"""A fold in batches: how they are cut."""

import numpy as np
import pytest

from gaussad_cli.training.batches import cut


@pytest.mark.parametrize(("n", "sizes"), [(8, [4, 4]), (9, [4, 5]), (1, [1]), (10, [4, 4, 2]), (4, [4])])
def test_no_batch_is_a_single_image_that_is_left_over(n, sizes):
    parts = cut(np.arange(n), 4)
    assert [len(part) for part in parts] == sizes
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(n))
