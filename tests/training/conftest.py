"""Images that the tiny networks learn from."""

import pytest
from PIL import Image

from tests.conftest import write_image


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Normal images dark, anomalous ones bright: easily learnt."""
    root = tmp_path_factory.mktemp("data")
    for folder, n in (("train/good", 12), ("test/good", 6), ("test/bright", 12)):
        for i in range(n):
            path = write_image(root / "knob" / folder / f"{i:03d}.png", seed=31 * len(folder) + i, size=20)
            if "bright" in folder:
                with Image.open(path) as image:
                    brighter = image.point(lambda value: 160 + value // 3)
                brighter.save(path)
    return root
