"""Image files as RGB pixels. Pillow decodes; what its own conversion would spoil is done here."""

import io
import struct
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from twostage_jax.data.sources.headers import (
    PHOTOMETRIC,
    PNG,
    as_black_is_zero,
    find_tag,
    without_texts,
)
from twostage_jax.data.sources.options import MAX_PIXELS, SourceOptions
from twostage_jax.support.errors import InputError
from twostage_jax.support.text import list_names, printable

# EPS and IPTC can start Ghostscript. The others hold no raster image that Pillow decodes by itself.
_NOT_OPENED = {"EPS", "IPTC", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"}

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# TIFF tags.
_BITS, _SAMPLE_FORMAT = 258, 339

# Images above this are decoded one at a time, because each takes hundreds of megabytes.
_LARGE_PIXELS = 2**25
_large = threading.Lock()


class _TooLargeError(ValueError):
    """An image has more pixels than allowed; the message is its size."""


class Decoded(NamedTuple):
    """What came of one file."""

    pixels: UInt8[np.ndarray, "h w 3"] | None = None
    """RGB, or None where the file is not read."""
    error: Exception | None = None
    """Why it is not read."""
    bits: int | None = None
    """How many of their 16 bits the samples use; None where they do not have 16."""
    size: tuple[int, int] | None = None
    """Height and width of the upright image before it was fitted."""


@cache
def raster_formats() -> tuple[str, ...]:
    """Names of Pillow's formats that are opened."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _NOT_OPENED)


@cache
def image_suffixes() -> tuple[str, ...]:
    """Suffixes of the formats that are opened, in lower case with a dot, sorted."""
    formats = {*raster_formats(), "MPO"}  # Pillow opens MPO by way of JPEG
    extensions = Image.registered_extensions()
    return tuple(sorted(suffix for suffix, name in extensions.items() if name in formats))


def decode_all(
    encoded: Sequence[Path | bytes],
    *,
    names: Sequence[str],
    options: SourceOptions,
    size: tuple[int, int] | None = None,
) -> tuple[UInt8[np.ndarray, "n h w 3"], list[int]]:
    """Decodes images in threads; Pillow releases Python's lock while it decodes.

    Warns of images that are left out (`on_unreadable` is "skip"), and of 16-bit images that use
    so few of their bits that they come out dark.

    Args:
        encoded: the file, or the file's content, of each image; at least one.
        names: what to call each image in a message.
        options: says how to fit images, which are too large and what to do with unreadable ones.
        size: height and width to fit images to in place of the options' square.

    Returns:
        the images, and the positions in `encoded` of those that are read, ascending.

    Raises:
        InputError: images cannot be decoded or are too large, or differ in size from the first
            while `image_size` is None. All images are tried; the message names the first few.
    """
    work = partial(try_decode, size=size or options.image_size, max_pixels=options.max_pixels)
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(work, encoded))
    kept = _readable(decoded, names, options)
    narrow = [row for row in kept if is_narrow(decoded[row].bits)]
    if narrow:
        warnings.warn(narrow_text(decoded[narrow[0]].bits, narrow, names), stacklevel=2)
    pixels: list[Any] = [decoded[row].pixels for row in kept]
    del decoded
    shape = pixels[0].shape
    if other := [row for row, own in enumerate(pixels) if own.shape != shape]:
        raise InputError(
            f"{len(other)} of {len(pixels)} images are not {_size(shape)} as "
            f"{printable(names[kept[0]])} is: {list_names([names[kept[row]] for row in other])} "
            f"(the first: {_size(pixels[other[0]].shape)}); expected one size: set an image size, "
            "to which all are fitted"
        )
    images = np.empty((len(pixels), *shape), np.uint8)
    for row in range(len(pixels)):
        images[row] = pixels[row]
        pixels[row] = None  # freed at once: the pixels would otherwise be held twice
    return images, kept


def decode(
    encoded: Path | bytes, image_size: int | None, *, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes one image to RGB.

    The orientation tag is applied; other metadata are not needed. Transparent pixels are laid over
    white, the color of an empty slide. Grayscale is repeated over the channels; grayscale of 16
    (12) bits is scaled from 0..65535 (0..4095) to 0..255, and inverted where 0 stands for white.
    The first frame is taken from a file with several. A 16-bit image that uses so few of its bits
    that it comes out dark is warned of.

    Args:
        encoded: a file, or a file's content.
        image_size: None keeps the size. Otherwise the largest centered square is resized once to
            this side, with Pillow's antialiased Lanczos filter. That is the same as resizing the
            shorter side and cropping the center. An image of this size keeps its pixels.
        max_pixels: the most pixels that an image may have.

    Raises:
        ValueError: signed or 32-bit pixels, which have no agreed range, or too many pixels.
        OSError: not an image, or one cut short.
    """
    decoded = _decode(encoded, image_size, max_pixels)
    if is_narrow(decoded.bits):
        name = "its content" if isinstance(encoded, bytes) else str(encoded)
        warnings.warn(narrow_text(decoded.bits, [0], [name]), stacklevel=2)
    assert decoded.pixels is not None  # what is wrong with the file was raised
    return decoded.pixels


def fit_image(image: Image.Image, size: int | tuple[int, int]) -> Image.Image:
    """The image cropped and resized as `decode` describes, to a side or to (height, width)."""
    height, width = (size, size) if isinstance(size, int) else size
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def _readable(
    decoded: Sequence[Decoded], names: Sequence[str], options: SourceOptions
) -> list[int]:
    """The rows that are read; warns of the others or refuses them, as the options say."""
    large = [row for row, own in enumerate(decoded) if isinstance(own.error, _TooLargeError)]
    bad = [row for row, own in enumerate(decoded) if own.error and row not in set(large)]
    if not (bad or large):
        return list(range(len(decoded)))
    problems = []
    if bad:
        problems.append(
            f"{len(bad)} of {len(decoded)} images cannot be read: "
            f"{list_names([names[row] for row in bad])} (the first: "
            f"{reason(decoded[bad[0]].error)})"
        )
    if large:
        sized = [f"{names[row]} ({decoded[row].error})" for row in large]
        problems.append(
            f"{len(large)} of {len(decoded)} images have more than {options.max_pixels:,} "
            f"pixels: {list_names(sized)}"
        )
    found = "; ".join(problems)
    if options.on_unreadable == "skip" and len(bad) + len(large) < len(decoded):
        warnings.warn(f"left out: {found}", stacklevel=4)
        return [row for row, own in enumerate(decoded) if own.error is None]
    advice = "expected intact images: repair or remove them" if bad else "scale them down"
    advice += ", raise --max-pixels" if large else ""
    raise InputError(f"{found}; {advice}, or leave them out with --on-unreadable skip")


def try_decode(
    encoded: Path | bytes, size: int | tuple[int, int] | None, max_pixels: int = MAX_PIXELS
) -> Decoded:
    """Decodes one image as `decode` does; what is wrong with a file is in the result.

    Args:
        encoded, max_pixels: as in `decode`.
        size: `image_size` of `decode`, or height and width of the images where they differ.
    """
    try:
        return _decode(encoded, size, max_pixels)
    except MemoryError:
        raise
    # Pillow raises many kinds of errors for broken files, and one report names all of them.
    except Exception as error:
        return Decoded(error=error.with_traceback(None))


def reason(error: Exception | None, max_pixels: int | None = None) -> str:
    """Why a file is not read, on one line; `max_pixels` is said of one that has more pixels."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, _TooLargeError) and max_pixels:
        return f"{error}, more than {max_pixels:,} pixels"
    return printable(" ".join(str(error).split())) or type(error).__name__


def _decode(encoded: Path | bytes, size: int | tuple[int, int] | None, max_pixels: int) -> Decoded:
    with own_limits:
        try:
            return _decode_once(encoded, size, max_pixels)
        except UnidentifiedImageError:
            content = _content(encoded)
            if not content:
                raise ValueError("an empty file") from None
            # Pillow does not know WhiteIsZero of all byte orders; it is inverted afterwards.
            if (other := as_black_is_zero(content)) is not None:
                return _decode_once(other, size, max_pixels, white_is_zero=True)
            if find_tag(content, PHOTOMETRIC) is not None:
                raise ValueError("a TIFF of a kind that Pillow cannot read") from None
            raise
        except _TooLargeError:
            raise
        except ValueError:
            content = _content(encoded)
            if not content.startswith(PNG):
                raise
            # Pillow refuses long texts and profiles, which are not needed.
            return _decode_once(without_texts(content), size, max_pixels)


def _decode_once(
    encoded: Path | bytes,
    size: int | tuple[int, int] | None,
    max_pixels: int,
    white_is_zero: bool = False,
) -> Decoded:
    file = io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded
    with Image.open(file, formats=raster_formats()) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise _TooLargeError(f"{width}x{height}")
        if width * height <= _LARGE_PIXELS:
            return _fit(image, size, white_is_zero)
        with _large:
            return _fit(image, size, white_is_zero)


def _fit(image: Image.Image, size: int | tuple[int, int] | None, white_is_zero: bool) -> Decoded:
    rgb, bits = _to_rgb(image, white_is_zero)
    found = (rgb.height, rgb.width)
    if size is not None:
        rgb = fit_image(rgb, size)
    return Decoded(np.array(rgb), bits=bits, size=found)


def _to_rgb(image: Image.Image, white_is_zero: bool) -> tuple[Image.Image, int | None]:
    """The image turned upright, and how many of 16 bits it uses."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    kind, raw_mode = image.format, _raw_mode(image)
    image.load()
    if turn := _TURNS.get(_orientation(image)):
        image = image.transpose(turn)
    sample_bits = max(tags.get(_BITS, (16,)))
    if 2 in tags.get(_SAMPLE_FORMAT, ()) or (kind == "FITS" and image.mode.startswith("I;16")):
        raise ValueError(f"signed {sample_bits}-bit pixels, whose range is unknown")
    bits = None
    if image.mode.startswith("I;16") or (kind == "PPM" and image.mode == "I"):
        values = np.asarray(image).astype(np.uint32)
        maximum = 2**sample_bits - 1
        transparent = image.info.get("transparency")
        clear = None if transparent is None else values == transparent
        if maximum == 65535 and values.any():
            bits = int(values.max()).bit_length()
        if white_is_zero or tags.get(PHOTOMETRIC) == 0:
            values = maximum - np.minimum(values, maximum)
        # Pillow's own conversion clips at 255, which turns the image white.
        gray = ((values * 255 + maximum // 2) // maximum).astype(np.uint8)
        image = Image.fromarray(gray)
        if clear is not None:
            image.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
    elif image.mode in ("I", "F"):
        raise ValueError("32-bit pixels, whose range is unknown")
    elif ";16" in raw_mode:
        # Pillow keeps the upper byte of each sample.
        channels = [image.getchannel(name) for name in image.getbands() if name != "A"]
        bits = 8 + int(max(np.asarray(channel).max() for channel in channels)).bit_length()
        if isinstance(transparent := image.info.get("transparency"), tuple):
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
    elif raw_mode in ("L;2", "L;4") and isinstance(image.info.get("transparency"), int):
        # Pillow scales the pixels to 0..255, but not the transparent value.
        image.info["transparency"] *= {"L;2": 85, "L;4": 17}[raw_mode]
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    return image.convert("RGB"), bits


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name of the layout of samples in the file, or an empty text."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def is_narrow(bits: int | None) -> bool:
    """Whether 16-bit samples stay in the lowest quarter of the range."""
    return bits is not None and bits <= 14


def narrow_text(bits: int | None, rows: Sequence[int], names: Sequence[str]) -> str:
    """What to say of the rows that are narrow; `bits` are those of the first."""
    number = "1 16-bit image uses" if len(rows) == 1 else f"{len(rows)} 16-bit images use"
    return (
        f"{number} at most 14 bits, and only a small part of the brightness (the first: "
        f"{printable(names[rows[0]])}, {bits} bits), because 65,535 is taken as white; if the data "
        "have fewer than 16 bits, scale the values to 0..65535"
    )


def _orientation(image: Image.Image) -> int:
    """The orientation tag; 1 if there is none. Other entries may be broken."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow raises many kinds of errors for broken entries
        found = None
    if isinstance(found, int) and 1 <= found <= 8:
        return found
    # Pillow stops at the first entry that lies outside the block.
    exif = image.info.get("exif", b"")
    block = exif.removeprefix(b"Exif\0\0") if isinstance(exif, bytes) else b""
    entry = find_tag(block, ExifTags.Base.Orientation)
    return 1 if entry is None else struct.unpack_from(entry[1], block, entry[0])[0]


def _content(encoded: Path | bytes) -> bytes:
    return encoded if isinstance(encoded, bytes) else encoded.read_bytes()


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


class _OwnLimits:
    """Turns off Pillow's limit of pixels and its warnings while any thread is inside.

    Both are settings of the whole process, so that threads share one change of them: the first to
    enter makes it, and the last to leave takes it back. A thread that catches warnings while others
    decode has to be inside from before to after, or it would undo what it did not change.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self):
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(self, *_):
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                Image.MAX_IMAGE_PIXELS = self._limit
                self._caught.__exit__(None, None, None)


own_limits = _OwnLimits()
