"""Decoding: every kind of file gives the picture that it holds, or a reason."""

import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest
from awkward_files import RAMP, chunk, gray_tiff, packed_12, pattern, png, rotated_jpeg
from PIL import EpsImagePlugin, Image

from twostage_jax.data.sources import folder
from twostage_jax.data.sources.decode import decode, image_suffixes
from twostage_jax.support.errors import InputError

WIDE = RAMP.astype(np.uint16) * 257
TWELVE = np.rint(RAMP / 255 * 4095).astype(np.uint16)


@pytest.mark.parametrize(
    "content",
    [
        gray_tiff(packed_12(TWELVE), bits=12),
        gray_tiff(packed_12(4095 - TWELVE), bits=12, white_is_zero=True),
        gray_tiff((65535 - WIDE).astype("<u2"), white_is_zero=True),
        gray_tiff((65535 - WIDE).astype(">u2"), white_is_zero=True, order=">"),
        gray_tiff(WIDE.astype(">u2"), order=">"),
        gray_tiff(255 - RAMP, bits=8, white_is_zero=True),
        b"P5 32 32 65535\n" + WIDE.astype(">u2").tobytes(),
        b"P5 32 32 4095\n" + TWELVE.astype(">u2").tobytes(),
    ],
    ids=["12", "12 inverted", "inverted", "inverted >", "16 >", "8 inverted", "pgm", "pgm 12"],
)
def test_gray_of_many_bits_is_the_picture_of_8_bits(content):
    found = decode(content, None)
    assert np.abs(found.astype(int) - RAMP[..., None]).max() <= 1


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_signed_samples_are_refused_by_name(bits, order, white_is_zero):
    stored = (RAMP // 2).astype(f"{order}i{bits // 8}")
    content = gray_tiff(stored, bits=bits, signed=True, order=order, white_is_zero=white_is_zero)
    with pytest.raises(ValueError, match=f"signed {bits}-bit pixels"):
        decode(content, None)


@pytest.mark.parametrize("color", [0, 2])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_value_is_laid_over_white(bits, color):
    scale = 257 if bits == 16 else 1
    values = np.array([[128, 1]], np.uint16 if bits == 16 else np.uint8) * scale
    if color == 2:
        values = np.repeat(values[..., None], 3, 2)
    more = chunk(b"tRNS", struct.pack(">H", scale) * (3 if color == 2 else 1))
    found = decode(png(values, color=color, bits=bits, more=more), None)
    assert found[0, :, 0].tolist() == [128, 255]


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_value_of_few_bits_is_laid_over_white(bits):
    """Samples 0 and 1 in one byte; 1 is transparent."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes([0, 1 << (8 - 2 * bits)])))
    transparent = chunk(b"tRNS", struct.pack(">H", 1))
    content = b"\x89PNG\r\n\x1a\n" + header + transparent + pixels + chunk(b"IEND", b"")
    assert decode(content, None)[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("color", [0, 2, 4])
@pytest.mark.parametrize(("bits", "said"), [(12, True), (14, True), (16, False)])
def test_few_bits_in_16_are_said(color, bits, said):
    values = np.rint(RAMP / 255 * (2**bits - 1)).astype(np.uint16)
    if color:
        values = np.stack([values] * 3 if color == 2 else [values, np.full_like(values, 65535)], -1)
    expected = pytest.warns(UserWarning, match=f", {bits} bits") if said else nullcontext()
    with expected:
        decode(png(values, color=color), None)


def test_few_bits_are_said_once_for_all_files(tmp_path):
    for seed in range(6):
        path = tmp_path / "ab"[seed % 2] / f"{seed}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(pattern(seed).astype(np.uint16) * 16))
    with pytest.warns(UserWarning, match=r"6 16-bit images.*first: a/0\.png, 12 bits") as caught:
        folder.load(tmp_path, None)
    assert len(caught) == 1


@pytest.mark.parametrize(
    "entry",
    [
        struct.pack("<HHI4s", 296, 2, 2, b"2\0\0\0"),
        struct.pack("<HHIf", 256, 11, 1, 1.5),
        struct.pack("<HHIi", 256, 9, 1, -5),
        struct.pack("<HHII", 0x10F, 2, 4000, 99_999),
        struct.pack("<HHII", 315, 12, 1, 8),
        struct.pack("<HHII", 0x100, 77, 1, 0),
    ],
    ids=["unit as text", "float", "negative", "outside the block", "double", "no such type"],
)
def test_a_photo_is_turned_whatever_its_other_metadata(entry, tmp_path):
    assert decode(rotated_jpeg(tmp_path / "x.jpg", entry), None).shape == (48, 32, 3)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_long_texts_of_a_png_are_passed_over(kind):
    long = zlib.compress(bytes(3_000_000))
    body = b"note\0" + (b"\1\0\0\0" if kind == b"iTXt" else b"\0") + long
    content = png(RAMP, bits=8, more=chunk(kind, body))
    np.testing.assert_array_equal(decode(content, None)[..., 0], RAMP)


def test_postscript_is_never_opened(tmp_path, monkeypatch):
    """Not by its suffix, and not where the bytes lie about it: Ghostscript would be started."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with pytest.raises(OSError, match="cannot identify"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", 8)
    assert not (tmp_path / "started").exists()
    assert not {".eps", ".ps", ".pdf", ".wmf", ".emf", ".h5"} & set(image_suffixes())


def test_the_limit_of_pixels_is_ours_and_quiet(monkeypatch):
    """Pillow's limit is that of the process: threads leave it as it was, and as it is for users."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    content = png(RAMP, bits=8)
    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("error")
        before = list(warnings.filters)
        for found in pool.map(lambda _: decode(content, None), range(64)):
            np.testing.assert_array_equal(found[..., 0], RAMP)
        assert warnings.filters == before
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(ValueError, match="32x32"):
        decode(content, None, max_pixels=1023)


def test_too_large_an_image_is_named_with_its_size_and_the_option(tmp_path):
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(png(pattern(seed), bits=8))
    Image.new("L", (60, 50)).save(tmp_path / "b" / "slide.tif")
    with pytest.raises(InputError, match=r"2,000 pixels: b/slide\.tif \(60x50\).*--max-pixels"):
        folder.load(tmp_path, 16, max_pixels=2000)
    assert len(folder.load(tmp_path, 16, max_pixels=3000)) == 3
