"""Image files that are hard to read right, and the pictures that they should give."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

RAMP = (np.add.outer(np.arange(32), np.arange(32)) * 255 // 62).astype(np.uint8)


def pattern(seed: int) -> np.ndarray:
    """A picture of its own for each seed, 32 x 32 gray."""
    return np.random.default_rng(seed).integers(0, 256, (32, 32), np.uint8)


def gray_tiff(
    stored: np.ndarray | bytes,
    *,
    bits: int = 16,
    white_is_zero: bool = False,
    signed: bool = False,
    order: str = "<",
) -> bytes:
    """An uncompressed gray TIFF of 32 x 32, with samples as stored; Pillow writes few kinds."""
    data = stored if isinstance(stored, bytes) else stored.tobytes()
    tags = {256: 32, 257: 32, 258: bits, 259: 1, 262: 0 if white_is_zero else 1, 273: 8}
    tags |= {277: 1, 278: 32, 279: len(data), 339: 2 if signed else 1}
    directory = struct.pack(f"{order}H", len(tags))
    for tag, value in tags.items():
        directory += struct.pack(f"{order}HHII", tag, 4, 1, value)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(f"{order}I", 8 + len(data)) + data + directory + bytes(4)


def packed_12(values: np.ndarray) -> bytes:
    """Two 12-bit samples in three bytes, the first bit first."""
    first, second = values.astype(np.uint16).reshape(-1, 2).T
    parts = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
    return np.stack(parts, 1).astype(np.uint8).tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: np.ndarray, *, color: int = 0, bits: int = 16, more: bytes = b"") -> bytes:
    """A PNG of the PNG color type; `more` are chunks before the pixels."""
    height, width = values.shape[:2]
    if bits == 16:
        values = values.astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def rotated_jpeg(path: Path, *entries: bytes) -> Path:
    """A JPEG of 48 x 32 with orientation 6 and other EXIF entries as they are given."""
    Image.fromarray(np.tile(RAMP, (1, 2))[:, :48]).save(path)
    directory = sorted([struct.pack("<HHII", 0x112, 3, 1, 6), *entries], key=lambda e: e[1::-1])
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(directory)) + b"".join(directory)
    block += bytes(4)
    content = path.read_bytes()
    marker = b"\xff\xe1" + struct.pack(">H", len(block) + 2)
    path.write_bytes(content[:2] + marker + block + content[2:])
    return path


def hundred_files(root: Path) -> Path:
    """Class folders `a` and `b` with one hundred entries: 78 images to read, and 22 others."""
    for name in ("a/deep/deeper", "b"):
        (root / name).mkdir(parents=True)
    suffixes = ("png", "bmp", "gif", "jfif", "tif", "ppm", "tga", "webp", "PNG", "dib")
    for seed in range(60):
        place = ("a", "a/deep", "b")[seed % 3]
        Image.fromarray(pattern(seed)).save(root / place / f"{seed}.{suffixes[seed % 10]}")
    for seed in range(60, 68):
        order, wide = "<>"[seed % 2], pattern(seed).astype(np.uint16) * 257
        stored = (65535 - wide).astype(f"{order}u2")
        content = gray_tiff(stored, white_is_zero=True, order=order)
        (root / "a" / "deep" / "deeper" / f"{seed}.tiff").write_bytes(content)
    for seed in range(68, 72):
        (root / "b" / f"{seed}.png").write_bytes(png(pattern(seed).astype(np.uint16) * 16))
    for seed in range(72, 76):
        text = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(2_000_000)))
        (root / "b" / f"{seed}.png").write_bytes(png(pattern(seed), bits=8, more=text))
    (root / "b" / "76.png").write_bytes((root / "b" / "75.png").read_bytes())
    rotated_jpeg(root / "b" / "77.jpg", struct.pack("<HHII", 0x10F, 2, 4000, 99_999))
    for index in range(9):
        (root / "a" / f"{index}.txt").write_text("a note")
    for index in range(3):
        (root / "b" / f"gone{index}.png").symlink_to(root / "nowhere")
    (root / "a" / "deep" / "up").symlink_to(root / "a")
    (root / "b" / "print.eps").write_text("%!PS")
    (root / "b" / "checksums").write_text("")
    (root / "loose.png").write_bytes(png(RAMP, bits=8))
    (root / "b" / "empty.png").write_bytes(b"")
    (root / "b" / "postscript.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (root / "b" / "cut.png").write_bytes(png(RAMP, bits=8)[:80])
    signed = gray_tiff(RAMP.astype("<i2"), signed=True)
    (root / "b" / "signed.tif").write_bytes(signed)
    Image.new("1", (9000, 9000)).save(root / "b" / "slide.png")
    (root / "b" / "page.png").write_text("<html>404</html>")
    return root
