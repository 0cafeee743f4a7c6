"""The demo's data: textile images from PyPI (conformal-clip-data, MIT), laid out like MVTec AD."""

from __future__ import annotations

import shutil
from pathlib import Path

from gaussad_cli.errors import UserError

# class folder -> (folder in the package, first and last image number). Training and test images have different numbers,
# so they would stay independent even if the package drew its nominal, local and global images from the same scenes.
CLASSES = {
    "train/good": ("nominal", 501, 800),
    "test/good": ("nominal", 801, 1000),
    "test/local": ("local", 1, 100),
    "test/global": ("global", 1, 100),
}


def write_demo_data(root: Path) -> Path:
    """Copy the demo's images to ``root/textile`` and return `root`; existing images stay.

    Raises
    ------
    UserError
        If the package is not installed or the folder cannot be written.
    """
    try:
        from conformal_clip_data import textile_simulated_root
    except ImportError:
        raise UserError("the demo's data is not installed: pip install 'gaussad[demo]'.") from None
    source = textile_simulated_root()
    try:
        for folder, (kind, first, last) in CLASSES.items():
            target = root / "textile" / folder
            target.mkdir(parents=True, exist_ok=True)
            for number in range(first, last + 1):
                image = target / f"textile_{number:04d}.jpg"
                if not image.exists():
                    shutil.copyfile(source / kind / image.name, image)
    except OSError as error:
        raise UserError(f"cannot write the demo's images to {root}: {error.strerror or error}.") from None
    return root
