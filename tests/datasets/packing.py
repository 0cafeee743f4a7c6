"""Small data sets as their owners pack them."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
from PIL import Image

PIXEL = b"not decoded here"


def png(value: int) -> bytes:
    """A mask of 4 x 6 pixels, of which two have a value."""
    pixels = np.zeros((4, 6), np.uint8)
    pixels[1, 2:4] = value
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def tar(files, mode="w:xz", members=()):
    """Pack files, name -> content, and then members without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for member in members:
            file.addfile(member)
    return buffer.getvalue()


def zipped(files, mode=0):
    """Pack files, name -> content, with Unix modes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            info = zipfile.ZipInfo()
            info.filename = info.orig_filename = name  # not the constructor, which mends some names
            info.external_attr = mode << 16
            file.writestr(info, content)
    return buffer.getvalue()


MVTEC = {
    f"{category}/{folder}/{i}.png": PIXEL + bytes([i])
    for category in ("bottle", "screw")
    for folder, n in (("train/good", 6), ("test/good", 2), ("test/dent", 2), ("ground_truth/dent", 2))
    for i in range(n)
} | {"license.txt": b"terms", "readme.txt": b"read me"}

_CANDLE = "candle/Data/Images"
VISA = {f"{_CANDLE}/Normal/{i}.JPG": PIXEL + bytes([i]) for i in range(8)}
VISA |= {f"{_CANDLE}/Anomaly/{i}.JPG": PIXEL + bytes([9, i]) for i in range(2)}
VISA |= {f"candle/Data/Masks/Anomaly/{i}.png": png(i + 1) for i in range(2)}
VISA["candle/image_anno.csv"] = b"image,label,mask\n"
VISA["split_csv/2cls_fewshot.csv"] = b"object,split,label,image,mask\n"
VISA["split_csv/1cls.csv"] = "\n".join(
    ["object,split,label,image,mask"]
    + [f"candle,{'train' if i < 6 else 'test'},normal,{_CANDLE}/Normal/{i}.JPG," for i in range(8)]
    + [f"candle,test,anomaly,{_CANDLE}/Anomaly/{i}.JPG,candle/Data/Masks/Anomaly/{i}.png" for i in range(2)]
).encode()

BTAD = {f"BTech_Dataset_transformed/01/train/ok/{i}.bmp": PIXEL for i in range(5)}
BTAD |= {f"BTech_Dataset_transformed/01/test/ok/{i}.bmp": PIXEL for i in range(2)}
BTAD["BTech_Dataset_transformed/01/test/ko/7.bmp"] = PIXEL
BTAD["BTech_Dataset_transformed/01/ground_truth/ko/7.png"] = png(255)
BTAD["BTech_Dataset_transformed/01/ground_truth/ko/Thumbs.db"] = PIXEL
