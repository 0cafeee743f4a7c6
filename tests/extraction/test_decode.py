"""Every supported file becomes 8-bit RGB by the documented rule."""

import hashlib
import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from gaussad_cli.datasets.images import MOST_BYTES
from gaussad_cli.errors import ImageError
from gaussad_cli.extraction import decode
from gaussad_cli.extraction.decode import decode_pixels, read_squares

RGB = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
GRAY = RGB[..., 0]
DEEP = np.random.default_rng(1).integers(0, 65536, (7, 9), dtype=np.uint16)
THREE_GRAY = np.stack([GRAY] * 3, axis=2)


def read_rgb(path):
    """The decoded pixels before the resize."""
    pixels = decode_pixels(path.read_bytes(), path)
    return pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=2)


def read_square(path, size):
    return read_squares(path, [size]).by_size[size]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "PNG", "TIFF"])
def test_lossless_colour_files_keep_their_pixels(tmp_path, suffix):
    Image.fromarray(RGB).save(tmp_path / f"x.{suffix}")
    np.testing.assert_array_equal(read_rgb(tmp_path / f"x.{suffix}"), RGB)


def test_lossless_webp_keeps_its_pixels(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.webp", lossless=True)
    np.testing.assert_array_equal(read_rgb(tmp_path / "x.webp"), RGB)


def test_jpeg_equals_what_opencv_decodes_to_a_level(tmp_path):
    smooth = cv2.resize(RGB, (90, 70), interpolation=cv2.INTER_LINEAR)
    Image.fromarray(smooth).save(tmp_path / "x.jpg", quality=95, subsampling=0)
    theirs = cv2.cvtColor(cv2.imread(str(tmp_path / "x.jpg")), cv2.COLOR_BGR2RGB)
    assert np.abs(read_rgb(tmp_path / "x.jpg").astype(int) - theirs).max() <= 2


def test_gray_is_repeated(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "x.png"), THREE_GRAY)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped(tmp_path, mode):
    base = RGB if mode == "RGBA" else GRAY[..., None]
    Image.fromarray(np.concatenate([base, GRAY[..., None] // 2], axis=2)).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "x.png"), RGB if mode == "RGBA" else THREE_GRAY)


@pytest.mark.parametrize("transparency", [None, 3])
def test_palettes_are_resolved(tmp_path, transparency):
    image = Image.fromarray(GRAY % 8).convert("P")
    image.putpalette(RGB.reshape(-1)[:24].tobytes())
    image.putdata((GRAY % 8).reshape(-1).tolist())
    image.save(tmp_path / "x.png", **({} if transparency is None else {"transparency": transparency}))
    np.testing.assert_array_equal(read_rgb(tmp_path / "x.png"), RGB.reshape(-1)[:24].reshape(8, 3)[GRAY % 8])


def test_one_bit_becomes_black_and_white(tmp_path):
    Image.fromarray(GRAY > 127).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "x.png")[..., 1], np.where(GRAY > 127, 255, 0))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_of_16_bit_gray_the_high_byte_is_kept(tmp_path, suffix):
    cv2.imwrite(str(tmp_path / f"x.{suffix}"), DEEP)
    np.testing.assert_array_equal(read_rgb(tmp_path / f"x.{suffix}"), np.stack([DEEP // 256] * 3, axis=2))


def test_of_16_bit_colour_the_high_byte_is_kept(tmp_path):
    deep = np.stack([DEEP, DEEP[::-1], DEEP[:, ::-1]], axis=2)
    cv2.imwrite(str(tmp_path / "x.png"), deep[..., ::-1])
    np.testing.assert_array_equal(read_rgb(tmp_path / "x.png"), deep // 256)


def test_the_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown rotated clockwise
    Image.fromarray(RGB).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "x.png"), np.rot90(RGB, -1))


def test_resize_is_opencvs_bilinear_on_bytes(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.png")
    np.testing.assert_array_equal(
        read_square(tmp_path / "x.png", 4), cv2.resize(RGB, (4, 4), interpolation=cv2.INTER_LINEAR)
    )


def test_gray_is_resized_as_its_three_channels_would_be(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "x.png")
    expected = cv2.resize(THREE_GRAY, (5, 5), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(read_square(tmp_path / "x.png", 5), expected)


def test_several_sizes_and_the_hash_come_from_one_reading(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.png")
    squares = read_squares(tmp_path / "x.png", [4, 6])
    assert squares.sha256 == hashlib.sha256((tmp_path / "x.png").read_bytes()).hexdigest()
    for size in (4, 6):
        np.testing.assert_array_equal(squares.by_size[size], read_square(tmp_path / "x.png", size))


def saved(tmp_path, suffix):
    large = cv2.resize(RGB, (120, 90), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(large).save(tmp_path / f"x.{suffix}")
    return tmp_path / f"x.{suffix}"


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, suffix, share):
    path = saved(tmp_path, suffix)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ImageError, match=rf"x\.{suffix}"):
        read_square(path, 8)


def test_a_file_that_is_no_image_or_not_there_is_an_error_that_names_it(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    for name in ("text.png", "nowhere.png"):
        with pytest.raises(ImageError, match=name):
            read_square(tmp_path / name, 8)


def test_floating_point_pixels_have_no_rule(tmp_path):
    Image.fromarray(DEEP.astype(np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match="8 or 16 bits"):
        read_rgb(tmp_path / "x.tif")


def test_32_bit_integers_have_no_rule(tmp_path):
    Image.fromarray(DEEP.astype(np.int32)).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match="8 or 16 bits"):
        read_rgb(tmp_path / "x.tif")


def test_a_format_that_is_not_supported_is_refused_whatever_its_name(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "x.png")
    with pytest.raises(ImageError, match="is not an image"):
        read_rgb(tmp_path / "x.png")


def jpeg(scans: int = 6) -> bytes:
    """A progressive JPEG, of 6 scans; more are the last one again."""
    file = io.BytesIO()
    Image.new("L", (64, 64)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    assert content.count(b"\xff\xda") == 6
    return content[:-2] + content[content.rfind(b"\xff\xda") : -2] * (scans - 6) + content[-2:]


def test_an_image_of_more_pixels_than_the_limit_is_refused_before_they_are_decoded(tmp_path, monkeypatch):
    content = jpeg()
    monkeypatch.setattr(decode, "MOST_PIXELS", 64 * 64)
    assert decode.decode_pixels(content, tmp_path / "x.jpg").shape == (64, 64)
    monkeypatch.setattr(decode, "MOST_PIXELS", 64 * 64 - 1)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"x\.jpg claims more than 0 million pixels"):
        decode.decode_pixels(content, tmp_path / "x.jpg")


def test_a_jpeg_of_many_scans_is_refused_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MOST_PASSES", 20 * 64 * 64)
    assert decode.decode_pixels(jpeg(scans=20), tmp_path / "x.jpg").shape == (64, 64)
    with pytest.raises(ImageError, match=r"x\.jpg is a JPEG with suspiciously many scans"):
        decode.decode_pixels(jpeg(scans=21), tmp_path / "x.jpg")


# --- 16-bit files whose pixels have fewer bits, and files of several pages ---

TWELVE = DEEP >> 4
COLOUR = np.stack([TWELVE, TWELVE[::-1], TWELVE[:, ::-1]], axis=2)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("depth", [10, 12, 14])
def test_of_fewer_bits_in_16_bit_files_the_high_8_are_kept(tmp_path, suffix, depth):
    path, pixels = tmp_path / f"x.{suffix}", DEEP >> (16 - depth)
    cv2.imwrite(str(path), pixels)
    np.testing.assert_array_equal(decode_pixels(path.read_bytes(), path, depth), pixels >> (depth - 8))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_of_12_bit_colour_the_high_8_bits_are_kept_and_alpha_is_dropped(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    for alpha in (False, True):
        cv2.imwrite(str(path), np.concatenate([COLOUR[..., ::-1], *([TWELVE[..., None]] if alpha else [])], axis=2))
        np.testing.assert_array_equal(decode_pixels(path.read_bytes(), path, 12), COLOUR >> 4)


@pytest.mark.parametrize("pixels", [DEEP, np.stack([DEEP] * 3, axis=2)], ids=["gray", "colour"])
def test_a_pixel_of_more_bits_than_the_depth_is_an_error(tmp_path, pixels):
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), pixels)
    with pytest.raises(ImageError, match=f"x.png has the value {DEEP.max()}, which is more than 12 bits"):
        decode_pixels(path.read_bytes(), path, 12)


def test_the_depth_changes_nothing_of_8_bit_files(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(RGB).save(path)
    np.testing.assert_array_equal(decode_pixels(path.read_bytes(), path, 12), RGB)


def test_a_turned_12_bit_colour_file_is_refused_rather_than_read_unturned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "8.png", exif=exif)
    cv2.imwrite(str(tmp_path / "x.png"), COLOUR)
    chunk = (tmp_path / "8.png").read_bytes()
    at = chunk.index(b"eXIf") - 4
    chunk = chunk[at : at + 12 + int.from_bytes(chunk[at : at + 4])]
    content = (tmp_path / "x.png").read_bytes()
    content = content[:33] + chunk + content[33:]
    with pytest.raises(ImageError, match="save it upright"):
        decode_pixels(content, tmp_path / "x.png", 12)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("pixels", [TWELVE, COLOUR], ids=["gray", "colour"])
def test_the_peak_of_16_bit_files_is_known(tmp_path, suffix, pixels):
    path = tmp_path / f"x.{suffix}"
    cv2.imwrite(str(path), pixels)
    assert read_squares(path, [4]).peak == pixels.max() >> 8
    assert read_squares(path, [4], 12).peak is None
    Image.fromarray(RGB).save(path)
    assert read_squares(path, [4]).peak is None


def test_a_file_of_several_pages_is_known_and_its_first_page_is_read(tmp_path):
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    first.save(tmp_path / "two.tif", save_all=True, append_images=[second])
    first.save(tmp_path / "one.tif")
    assert read_squares(tmp_path / "two.tif", [4]).has_pages
    assert not read_squares(tmp_path / "one.tif", [4]).has_pages
    np.testing.assert_array_equal(read_rgb(tmp_path / "two.tif"), RGB)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_pipe_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match=r"pipe\.png: it is a pipe, socket or device, not a file"):
        read_squares(tmp_path / "pipe.png", [8])


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "huge.png").touch()
    os.truncate(tmp_path / "huge.png", MOST_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    with pytest.raises(ImageError, match=r"huge.png: it has 537 MB, more than the 537 MB"):
        read_squares(tmp_path / "huge.png", [8])
