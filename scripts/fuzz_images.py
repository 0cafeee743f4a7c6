"""Images for `fuzz.py`: sound ones of every format and kind, ways to damage them, and bombs."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from PIL import Image

_EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_SIDES = (0, 1, 7, 8191, 8192, 8193, 16383, 16384, 30000, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def sound_images() -> dict[str, bytes]:
    """Return sound files by name: every format, 8 and 16 bits, gray, palette, alpha, turned, several frames."""
    rgb = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8), (60, 44))
    deep = (rgb.astype(np.uint16) << 8) + 77
    image = Image.fromarray(rgb)
    kinds = {"rgb": image, "gray": image.convert("L"), "palette": image.quantize(32), "bits": image.convert("1")}
    alpha = {"rgba": image.convert("RGBA"), "graya": image.convert("LA")}
    exif = Image.Exif()
    exif[0x0112] = 6
    found: dict[str, bytes] = {}

    def save(name: str, one: Image.Image, suffix: str, **options: object) -> None:
        file = io.BytesIO()
        one.save(file, suffix, **options)
        found[name] = file.getvalue()

    for kind, one in (kinds | alpha).items():
        save(f"{kind}.png", one, "PNG")
        save(f"{kind}.tif", one, "TIFF")
    for kind, one in kinds.items():
        save(f"{kind}.bmp", one, "BMP")
    save("transparent.png", kinds["palette"], "PNG", transparency=3)
    save("turned.png", image, "PNG", exif=exif)
    save("turned.jpg", image, "JPEG", exif=exif)
    save("rgb.jpg", image, "JPEG")
    save("gray.jpg", kinds["gray"], "JPEG")
    save("progressive.jpg", image, "JPEG", progressive=True)
    save("cmyk.jpg", image.convert("CMYK"), "JPEG")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        save(f"{compression}.tif", image, "TIFF", compression=compression)
    save("frames.tif", image, "TIFF", save_all=True, append_images=[image, image])
    save("float.tif", Image.fromarray(rgb[..., 0].astype(np.float32)), "TIFF")
    save("lossy.webp", image, "WEBP")
    save("lossless.webp", image, "WEBP", lossless=True)
    save("rgba.webp", alpha["rgba"], "WEBP")
    save("frames.webp", image, "WEBP", save_all=True, append_images=[image, kinds["gray"].convert("RGB")])
    for kind, pixels in (("deep", deep), ("deepgray", deep[..., 0])):
        for suffix in ("png", "tif"):
            found[f"{kind}.{suffix}"] = cv2.imencode(f".{suffix}", pixels)[1].tobytes()
    return found


# --- damage to any file ---


def damage(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Damage a file in one of the ways that disks, transfers and fuzzers have, seldom several."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(_DAMAGES)(bytearray(content), rng, others)
    return content


def _truncate(content: bytearray, rng: random.Random, _: list[bytes]) -> bytes:
    return bytes(content[: rng.randrange(len(content) + 1)])


def _flip(content: bytearray, rng: random.Random, _: list[bytes]) -> bytes:
    for _number in range(rng.choice((1, 1, 3, 16))):
        if content:
            content[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(content)


def _overwrite(content: bytearray, rng: random.Random, _: list[bytes]) -> bytes:
    """Put an extreme number of one, two or four bytes somewhere."""
    form, mask = rng.choice((("B", 0xFF), ("<H", 0xFFFF), (">H", 0xFFFF), ("<I", 0xFFFFFFFF), (">I", 0xFFFFFFFF)))
    number = struct.pack(form, rng.choice(_EXTREMES) & mask)
    if len(content) > len(number):
        place = min(_place(content, rng), len(content) - len(number))
        content[place : place + len(number)] = number
    return bytes(content)


def _cut_out(content: bytearray, rng: random.Random, _: list[bytes]) -> bytes:
    begin, end = sorted(rng.randrange(len(content) + 1) for _number in range(2))
    return bytes(content[:begin] + content[end:])


def _repeat(content: bytearray, rng: random.Random, _: list[bytes]) -> bytes:
    begin, end = sorted(rng.randrange(len(content) + 1) for _number in range(2))
    return bytes(content[:end] + content[begin:end] * rng.choice((1, 1, 2, 20)) + content[end:])


def _zero(content: bytearray, rng: random.Random, _: list[bytes]) -> bytes:
    begin, end = sorted(rng.randrange(len(content) + 1) for _number in range(2))
    content[begin:end] = bytes(end - begin)
    return bytes(content)


def _insert(content: bytearray, rng: random.Random, _: list[bytes]) -> bytes:
    place = rng.randrange(len(content) + 1)
    return bytes(content[:place]) + rng.randbytes(rng.choice((1, 4, 100))) + bytes(content[place:])


def _splice(content: bytearray, rng: random.Random, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    return bytes(content[: rng.randrange(len(content) + 1)]) + other[rng.randrange(len(other) + 1) :]


def _place(content: bytearray, rng: random.Random) -> int:
    """Return a place, as often in the header as in all the rest."""
    return rng.randrange(min(len(content), rng.choice((64, len(content)))))


_DAMAGES = (_truncate, _flip, _flip, _overwrite, _overwrite, _cut_out, _repeat, _zero, _insert, _splice)


# --- damage that knows the format ---


def absurd_size(content: bytes, rng: random.Random) -> bytes:
    """Claim other dimensions, or another kind of pixels, in a header that is sound otherwise."""
    if content.startswith(b"\x89PNG"):
        return _absurd_png(content, rng)
    width, height = rng.choice(_SIDES), rng.choice(_SIDES)
    changed = bytearray(content)
    if content.startswith(b"BM"):
        struct.pack_into("<II", changed, 18, width, height)
    elif content.startswith(b"\xff\xd8"):
        place = min(p for p in (content.find(b"\xff\xc0"), content.find(b"\xff\xc2"), len(content) - 9) if p >= 0)
        struct.pack_into(">HH", changed, place + 5, height & 0xFFFF, width & 0xFFFF)
    elif content.startswith(b"RIFF"):
        place = content.find(b"VP8X")
        for offset, side in ((0, width), (3, height)):
            if place >= 0:
                changed[place + 12 + offset : place + 15 + offset] = struct.pack("<I", side & 0xFFFFFF)[:3]
        if place < 0:
            struct.pack_into("<I", changed, 21, rng.getrandbits(32))
    else:
        _absurd_tiff(changed, rng)
    return bytes(changed)


def _absurd_png(content: bytes, rng: random.Random) -> bytes:
    """Change the header chunk, or any byte of any chunk, and make its checksum right again."""
    place, chunks = 8, list[tuple[bytes, bytearray]]()
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], bytearray(content[place + 8 : place + 8 + length])))
        place += 12 + length
    _, data = chunks[0] if rng.random() < 0.5 else rng.choice(chunks)
    if data is chunks[0][1] and rng.random() < 0.7:
        struct.pack_into(">II", data, 0, rng.choice(_SIDES), rng.choice(_SIDES))
    elif data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    return content[:8] + b"".join(_chunk(name, bytes(data)) for name, data in chunks)


def _absurd_tiff(content: bytearray, rng: random.Random) -> None:
    """Change the value of a tag of the first directory."""
    order = "<" if content.startswith(b"II") else ">"
    (place,) = struct.unpack_from(f"{order}I", content, 4)
    if place + 2 > len(content):
        return
    (n,) = struct.unpack_from(f"{order}H", content, place)
    entry = place + 2 + 12 * (rng.choice((0, 1)) if rng.random() < 0.5 else rng.randrange(n))
    if entry + 12 <= len(content):
        offset = rng.choice((8, 8, 8, 4))  # the value, or how many there are
        struct.pack_into(f"{order}I", content, entry + offset, rng.choice(_SIDES))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


# --- bombs: small files that claim, and have, very many pixels or bytes ---


def png_bomb(width: int, height: int, colour: int = 2) -> bytes:
    """Return a sound PNG of zeros; colour 0 is gray, 2 RGB, 6 RGBA, of 8 bits."""
    row = 1 + width * {0: 1, 2: 3, 6: 4}[colour]
    packer, data, left = zlib.compressobj(1), [], row * height
    while left:
        data.append(packer.compress(bytes(min(left, 1 << 20))))
        left -= min(left, 1 << 20)
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b"".join(data) + packer.flush()), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _text_bomb() -> bytes:
    """Return a small PNG with texts that unpack to 200 million bytes each."""
    small = png_bomb(8, 8)
    text = zlib.compress(bytes(200_000_000), 1)
    extra = _chunk(b"zTXt", b"a\0\0" + text) + _chunk(b"iCCP", b"a\0\0" + text)
    return small[:33] + extra + small[33:]


def _saved(width: int, height: int, suffix: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, suffix, **options)
    return file.getvalue()


def _many_scans(scans: int) -> bytes:
    """Return a JPEG of the most pixels whose last scan is there so many times: each is a pass over all of it."""
    content = _saved(8192, 8192, "JPEG", progressive=True, quality=1)
    last = content.rfind(b"\xff\xda")
    return content[:last] + content[last:-2] * scans + content[-2:]


BOMBS: Mapping[str, Callable[[], bytes]] = {
    "most-rgb.png": lambda: png_bomb(8192, 8192),
    "most-rgba.png": lambda: png_bomb(8192, 8192, 6),
    "most-gray.png": lambda: png_bomb(8192, 8192, 0),
    "one-too-many.png": lambda: png_bomb(8192, 8193),
    "pillows-limit.png": lambda: png_bomb(13377, 13377),
    "wide.png": lambda: png_bomb(60_000_000, 1),
    "text.png": _text_bomb,
    "most.jpg": lambda: _saved(8192, 8192, "JPEG"),
    "most-progressive.jpg": lambda: _saved(8192, 8192, "JPEG", progressive=True),
    "most-scans.jpg": lambda: _many_scans(50),
    "too-many-scans.jpg": lambda: _many_scans(300),
    "largest.jpg": lambda: _saved(65500, 1500, "JPEG"),
    "most.tif": lambda: _saved(8192, 8192, "TIFF", compression="tiff_adobe_deflate"),
    "most-lzw.tif": lambda: _saved(8192, 8192, "TIFF", compression="tiff_lzw"),
    "most.webp": lambda: _saved(8192, 8192, "WEBP", lossless=True, method=0),
    "largest.webp": lambda: _saved(16383, 6000, "WEBP", lossless=True, method=0),
    "most.bmp": lambda: _saved(8192, 8192, "BMP"),
}
