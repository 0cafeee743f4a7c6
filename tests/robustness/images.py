"""Images of every format and kind, ways to damage them that know the formats, and bombs."""

import io
import struct
import zlib

import cv2
import numpy as np
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from tests.robustness.damage import damaged

FORMATS = {"png": "PNG", "tif": "TIFF", "bmp": "BMP", "jpg": "JPEG", "webp": "WEBP"}
MODES = {"png": "RGB L P 1 RGBA LA", "tif": "RGB L P 1 RGBA LA F", "bmp": "RGB L P 1", "jpg": "RGB L CMYK"}
MODES |= {"webp": "RGB RGBA"}
_WIDTH, _HEIGHT = 60, 44
_SIDES = (0, 1, 7, 8191, 8192, 8193, 16383, 16384, 30000, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def saved(image, suffix, **options):
    """Return an image as a file."""
    file = io.BytesIO()
    image.save(file, FORMATS[suffix], **options)
    return file.getvalue()


def sound_images():
    """Return sound files by name: every format, 8 and 16 bits, gray, palette, alpha, turned, several frames."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(cv2.resize(noise, (_WIDTH, _HEIGHT)))
    kinds = {mode: image.convert(mode) for mode in ("RGB", "L", "1", "RGBA", "LA", "CMYK")}
    kinds |= {"P": image.quantize(32), "F": kinds["L"].convert("F")}
    found = {f"{mode}.{suffix}": saved(kinds[mode], suffix) for suffix in MODES for mode in MODES[suffix].split()}
    exif = Image.Exif()
    exif[0x0112] = 6
    several = {"save_all": True, "append_images": [image, kinds["L"].convert("RGB")]}
    special = {"turned.png": {"exif": exif}, "turned.jpg": {"exif": exif}, "progressive.jpg": {"progressive": True}}
    special |= {f"{c}.tif": {"compression": c} for c in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")}
    special |= {"lossless.webp": {"lossless": True}, "frames.tif": several, "frames.webp": several}
    found |= {name: saved(image, name.split(".")[1], **options) for name, options in special.items()}
    found["transparent.png"] = saved(kinds["P"], "png", transparency=3)
    deep = (np.asarray(image).astype(np.uint16) << 8) + 77
    for name, pixels in (("deep", deep), ("deepgray", deep[..., 0])):
        found |= {f"{name}.{suffix}": cv2.imencode(f".{suffix}", pixels)[1].tobytes() for suffix in ("png", "tif")}
    return found


@st.composite
def damaged_image(draw, content, others):
    """Let a header claim another size, or damage bytes, or both; the checksums of a PNG are right again or not."""
    how = draw(st.sampled_from(("size", "bytes", "bytes", "both")))
    if how != "bytes":
        content = draw(_of_another_size(content))
    if how != "size":
        content = draw(damaged(content, others))
    return _with_right_checksums(content) if draw(st.booleans()) else content


@st.composite
def _of_another_size(draw, content):
    """Overwrite the image's width or height, or both, wherever and however its format writes them."""
    # VP8X writes a side less one, VP8L both sides in one number.
    numbers = (_WIDTH, _HEIGHT, _WIDTH - 1, _HEIGHT - 1, _WIDTH - 1 | (_HEIGHT - 1) << 14)
    for _ in range(draw(st.sampled_from((1, 2)))):
        written = [(form, struct.pack(form, n)) for form in ("<I", ">I") for n in numbers]
        written += [(form, struct.pack(form, n)) for form in ("<H", ">H") for n in numbers[:4]]
        if found := [(form, pattern) for form, pattern in written if pattern in content]:
            form, pattern = draw(st.sampled_from(found))
            side = draw(st.sampled_from(_SIDES)) & (256 ** len(pattern) - 1)
            content = content.replace(pattern, struct.pack(form, side), 1)
    return content


def _with_right_checksums(content):
    place, changed = 8, bytearray(content)
    while content.startswith(b"\x89PNG") and place + 12 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4])
        if end + 4 <= len(content):
            changed[end : end + 4] = struct.pack(">I", zlib.crc32(content[place + 4 : end]))
        place = end + 4
    return bytes(changed)


# --- bombs: small files that claim, and have, very many pixels or bytes ---


def _black(suffix, width=8192, height=8192, mode="RGB", **options):
    return lambda: saved(Image.new(mode, (width, height)), suffix, **options)


def _text_bomb():
    """Return a small PNG with a text and a profile that unpack to 200 million bytes each."""
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "\0" * 200_000_000, zip=True)
    return saved(Image.new("RGB", (8, 8)), "png", pnginfo=text, icc_profile=bytes(200_000_000))


def _many_scans(scans):
    """Return a JPEG of the most pixels that has its last scan so many times: each is a pass over all of them."""
    content = _black("jpg", progressive=True, quality=1)()
    last = content.rfind(b"\xff\xda")
    return content[:last] + content[last:-2] * scans + content[-2:]


BOMBS = {  # file name -> what makes it
    "most-rgb.png": _black("png"),
    "most-rgba.png": _black("png", mode="RGBA"),
    "most-gray.png": _black("png", mode="L"),
    "one-too-many.png": _black("png", 8192, 8193),
    "pillows-limit.png": _black("png", 13377, 13377),
    "wide.png": _black("png", 60_000_000, 1),
    "text.png": _text_bomb,
    "most.jpg": _black("jpg"),
    "most-progressive.jpg": _black("jpg", progressive=True),
    "most-scans.jpg": lambda: _many_scans(50),
    "too-many-scans.jpg": lambda: _many_scans(300),
    "largest.jpg": _black("jpg", 65500, 1500),
    "most.tif": _black("tif", compression="tiff_adobe_deflate"),
    "most-lzw.tif": _black("tif", compression="tiff_lzw"),
    "most.webp": _black("webp", lossless=True, method=0),
    "largest.webp": _black("webp", 16383, 6000, lossless=True, method=0),
    "most.bmp": _black("bmp"),
}
