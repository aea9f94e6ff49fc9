"""Eight textures in the colors of stained tissue, drawn from a seed: data for trials and tests.

They have the names of the paper's classes and imitate what those show under hematoxylin (purple
nuclei) and eosin (pink fibers and plasma). They are drawings: no result on them says anything about
tissue. They are hard enough that training and sampling matter. A tile's character is a blend of its
class and of one that resembles it, while stain, light, scale, focus and noise vary in the same way
over all classes.

A tile is drawn in three steps. `_draw_character` varies and blends the mean character of the class,
a row of `_CHARACTER`. `_stain_densities` builds the densities of both stains from it on a grid of
points. `_photograph` lets them absorb light as real stains do.
"""

import functools

import numpy as np
from jaxtyping import Float32, Int, UInt8

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources.options import SourceOptions
from twostage_jax.support.errors import InputError

CLASS_NAMES = ("tumor", "stroma", "complex", "lympho", "debris", "mucosa", "adipose", "empty")

DEFAULT_SIZE = 64

_PROPERTIES = (
    "pitch",  # nuclei: spacing, as a share of the tile's side
    "crowd",  # nuclei: share of places taken
    "radius",  # nuclei: as a share of the pitch
    "stretch",  # nuclei: elongation, log2 of the ratio of the axes
    "ink",  # nuclei: hematoxylin density
    "fiber",  # contrast of the wavy fibers
    "grain",  # contrast of the fine granules
    "pink",  # eosin density of the ground
    "violet",  # hematoxylin density of the ground
    "gland",  # share of the tile taken by glands
    "fat",  # share of the tile taken by fat cells
    "bare",  # share of the tile without tissue
)

_CHARACTER = np.array(
    [
        # pitch crowd radius stretch ink fiber grain pink violet gland fat  bare
        [0.110, 0.86, 0.40, 0.45, 0.58, 0.12, 0.32, 0.30, 0.42, 0.10, 0.00, 0.03],  # tumor
        [0.130, 0.26, 0.25, 1.50, 0.62, 0.55, 0.18, 0.80, 0.03, 0.00, 0.02, 0.04],  # stroma
        [0.105, 0.48, 0.33, 0.75, 0.78, 0.38, 0.24, 0.58, 0.22, 0.03, 0.02, 0.05],  # complex
        [0.074, 0.92, 0.38, 0.15, 0.96, 0.08, 0.18, 0.10, 0.30, 0.00, 0.00, 0.03],  # lympho
        [0.095, 0.30, 0.23, 0.40, 0.55, 0.28, 0.55, 0.22, 0.10, 0.06, 0.02, 0.30],  # debris
        [0.105, 0.50, 0.36, 0.50, 0.68, 0.26, 0.28, 0.48, 0.10, 0.62, 0.00, 0.05],  # mucosa
        [0.130, 0.22, 0.25, 0.90, 0.62, 0.30, 0.20, 0.42, 0.06, 0.00, 0.85, 0.04],  # adipose
        [0.130, 0.10, 0.22, 0.50, 0.45, 0.15, 0.20, 0.20, 0.03, 0.00, 0.05, 1.15],  # empty
    ]
)

# Standard deviation of each property within a class. Together with `_BLEND` and the variation of
# the stains it sets how hard the set is. In the demo a network trains for about 370 steps from
# random weights, with 22 images of each rare class. With twice these values, blends up to 0.46 and
# more varied stains, the demo's baseline reached an AvAcc of 0.33.
_SPREAD = 0.45 * np.array(
    [0.012, 0.12, 0.035, 0.22, 0.11, 0.10, 0.09, 0.07, 0.05, 0.07, 0.05, 0.05]
)

# The classes that each class may blend into; a name given twice is twice as likely.
_RESEMBLES = {
    "tumor": ("complex", "lympho", "mucosa"),
    "stroma": ("complex", "debris", "complex"),
    "complex": ("stroma", "tumor", "lympho"),
    "lympho": ("tumor", "complex", "tumor"),
    "debris": ("stroma", "mucosa", "complex"),
    "mucosa": ("tumor", "debris", "complex"),
    "adipose": ("empty", "stroma", "debris"),
    "empty": ("adipose", "adipose", "debris"),
}

# The largest share of the resembling class; at 0.5 a tile would belong to both equally.
_BLEND = 0.15

# Optical density of the stains in red, green and blue, relative.
_HEMATOXYLIN = np.array([0.65, 0.70, 0.38])
_EOSIN = np.array([0.17, 0.85, 0.50])


def read(options: SourceOptions) -> ImageSet:
    """The source `synthetic`, see `generate`."""
    if options.data_dir is not None:
        raise InputError(
            f"dataset 'synthetic' with data dir {options.data_dir}; it is drawn, not read: leave "
            "the data dir out, or choose dataset 'folder'"
        )
    return generate(
        image_size=options.image_size or DEFAULT_SIZE,
        seed=options.seed,
        images_per_class=options.images_per_class,
    )


def generate(*, image_size: int, seed: int, images_per_class: int) -> ImageSet:
    """Draws the textures.

    A tile depends only on (seed, class, index, image size), not on the number of tiles. Another
    processor or version of NumPy may round a sine differently and thereby change a pixel.

    Args:
        image_size: side of the tiles, in pixels, from 16 up. Structures scale with it.
        seed: from 0 up.
        images_per_class: number of tiles of each of the eight classes.

    Returns:
        Image set with images uint8 n x image_size x image_size x 3.

    Raises:
        InputError: a number out of range.
    """
    for name, value, least in (
        ("image size", image_size, 16),
        ("seed", seed, 0),
        ("images per class", images_per_class, 1),
    ):
        if value < least:
            raise InputError(f"{name} {value}; synthetic textures need {least} or more")
    labels = np.repeat(np.arange(len(CLASS_NAMES), dtype=np.int32), images_per_class)
    indices = np.tile(np.arange(images_per_class), len(CLASS_NAMES))
    images = np.empty((len(labels), image_size, image_size, 3), np.uint8)
    for row, (label, index) in enumerate(zip(labels, indices, strict=True)):
        images[row] = draw_tile(int(label), index=int(index), image_size=image_size, seed=seed)
    # Leading zeros let names sort by number.
    names = [
        f"{CLASS_NAMES[label]}/{index:09d}" for label, index in zip(labels, indices, strict=True)
    ]
    return ImageSet.create(
        images=images,
        labels=labels,
        class_names=CLASS_NAMES,
        names=names,
        source=f"synthetic textures, seed {seed}",
    )


def draw_tile(label: int, *, index: int, image_size: int, seed: int) -> UInt8[np.ndarray, "h w 3"]:
    """Draws one tile of class `label`.

    Args:
        label: position in `CLASS_NAMES`.
        index: number of the tile within its class, from 0 up.
        image_size: side, in pixels.
        seed: from 0 up.

    Returns:
        RGB pixels, uint8, image_size x image_size x 3.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, label, index, image_size)))
    character = _draw_character(rng, label)
    return _photograph(rng, *_stain_densities(rng, image_size, character))


def _draw_character(rng: np.random.Generator, label: int) -> dict[str, float]:
    other = CLASS_NAMES.index(rng.choice(_RESEMBLES[CLASS_NAMES[label]]))
    share = _BLEND * rng.random()
    values = (1 - share) * _CHARACTER[label] + share * _CHARACTER[other]
    values = np.maximum(values + _SPREAD * rng.standard_normal(len(values)), 0)
    return dict(zip(_PROPERTIES, values.tolist(), strict=True))


def _stain_densities(
    rng: np.random.Generator, size: int, character: dict[str, float]
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Densities of hematoxylin and of eosin."""
    zoom = np.exp2(rng.uniform(-0.4, 0.4))
    broad = _noise(rng, size, 3 / zoom)
    middle = _noise(rng, size, 9 / zoom)
    fine = _noise(rng, size, 26 / zoom)

    fibers = _fibers(rng, size, 11 / zoom, broad)
    grain = character["grain"]
    texture = np.exp(
        character["fiber"] * fibers * (0.7 + 0.3 * middle) + grain * (0.5 * fine + 0.5 * middle)
    )
    eosin = character["pink"] * texture
    hematoxylin = character["violet"] * np.exp(grain * fine + 0.3 * broad)

    nuclei = _nuclei(rng, size, character, zoom, crowding=0.25 * broad)
    if character["gland"] > 0.05:
        ground, rim, lumen = _glands(
            rng, size, character["gland"], zoom, 0.04 * broad + 0.03 * middle
        )
        nuclei = np.maximum(nuclei * ground, rim * np.exp(0.25 * fine))
        eosin = eosin * (1 - 0.75 * lumen)
        hematoxylin = (hematoxylin + 0.10 * (1 - ground)) * (1 - 0.65 * lumen)
    hematoxylin = hematoxylin + character["ink"] * nuclei * np.exp(0.2 * fine)
    eosin = eosin * (1 - 0.5 * nuclei)

    if character["fat"] > 0.05:
        covered = _covered(character["fat"], broad)
        walls = _fat_walls(rng, size, zoom, 0.05 * middle)
        open_ = 1 - 0.96 * covered * (1 - walls)
        eosin, hematoxylin = eosin * open_, hematoxylin * open_
    tissue = 1 - 0.97 * _covered(character["bare"], 0.95 * broad + 0.3 * middle)
    return hematoxylin * tissue, eosin * tissue


def _photograph(
    rng: np.random.Generator,
    hematoxylin: Float32[np.ndarray, "h w"],
    eosin: Float32[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w 3"]:
    """The light that passes the stains (Beer and Lambert), through an imperfect microscope.

    All of its variation is the same for every class.
    """
    size = len(eosin)
    strength = np.exp(0.06 * rng.standard_normal(2))
    stains = np.stack([_HEMATOXYLIN, _EOSIN]) + 0.01 * rng.standard_normal((2, 3))
    absorbed = _blurred(np.stack([hematoxylin, eosin]), rng.uniform(0.0, 0.012) * size)
    lamp = np.array([0.93, 0.91, 0.94]) * (
        1 + 0.035 * rng.standard_normal() + 0.012 * rng.standard_normal(3)
    )
    density = np.moveaxis(absorbed, 0, -1) @ (strength[:, None] * stains).astype(np.float32)
    light = lamp.astype(np.float32) * np.exp(np.float32(-2.0) * density)
    light += rng.uniform(0.008, 0.03) * rng.standard_normal((size, size, 3), dtype=np.float32)
    return (255 * np.clip(light, 0, 1) + 0.5).astype(np.uint8)


def _nuclei(
    rng: np.random.Generator,
    size: int,
    character: dict[str, float],
    zoom: float,
    crowding: Float32[np.ndarray, "h w"],
) -> Float32[np.ndarray, "h w"]:
    """Ellipses on a jittered grid, 0 to 1."""
    dx, dy, cell, cells = _nearby_points(rng, size, character["pitch"] * zoom)
    angle = rng.uniform(0, np.pi) + rng.normal(0, 0.5, cells)
    ratio = np.exp2(0.5 * np.maximum(character["stretch"] + 0.3 * rng.standard_normal(cells), 0))
    radius = character["radius"] * np.exp(0.22 * rng.standard_normal(cells))
    chance = rng.random(cells)
    # Squared distance as a quadratic form in (dx, dy), 1 at the rim, longer along `angle`.
    long, short = (1 / (radius * ratio)) ** 2, (ratio / radius) ** 2
    cos, sin = np.cos(angle), np.sin(angle)
    table = np.stack(
        [
            cos**2 * long + sin**2 * short,
            2 * cos * sin * (long - short),
            sin**2 * long + cos**2 * short,
            chance,
        ]
    )
    xx, xy, yy, chance = table.astype(np.float32).take(cell, axis=1)
    distance = dx * (xx * dx + xy * dy) + yy * dy * dy
    distance[chance > np.float32(character["crowd"]) + crowding] = 9
    return np.clip(np.float32(1.9) - np.float32(1.4) * distance.min(axis=0), 0, 1)


def _glands(
    rng: np.random.Generator,
    size: int,
    share: float,
    zoom: float,
    ripple: Float32[np.ndarray, "h w"],
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Masks, 0 to 1: the ground between glands, the rim of nuclei around each, the pale inside."""
    dx, dy, cell, cells = _nearby_points(rng, size, 0.42 * zoom)
    radius = (0.50 * np.exp(0.12 * rng.standard_normal(cells))).astype(np.float32)
    present = rng.random(cells) < 1.35 * share
    depth = np.sqrt(dx * dx + dy * dy) / radius[cell] + 3 * ripple
    depth = np.where(present[cell], depth, np.float32(9)).min(axis=0)
    ground = np.clip(8 * (depth - 1), 0, 1)
    rim = np.exp(-(((depth - 0.88) / 0.11) ** 2))
    lumen = np.clip(5 * (0.70 - depth), 0, 1)
    return ground, rim, lumen


def _fat_walls(
    rng: np.random.Generator, size: int, zoom: float, ripple: Float32[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w"]:
    """Thin walls midway between neighboring points, 0 to 1."""
    dx, dy, _, _ = _nearby_points(rng, size, 0.34 * zoom)
    nearest = np.partition(np.sqrt(dx * dx + dy * dy), 1, axis=0)
    return np.exp(-(((nearest[1] - nearest[0] + ripple) / 0.09) ** 2))


def _nearby_points(
    rng: np.random.Generator, size: int, pitch: float
) -> tuple[
    Float32[np.ndarray, "9 h w"], Float32[np.ndarray, "9 h w"], Int[np.ndarray, "9 h w"], int
]:
    """One random point in each square of a grid, relative to every pixel.

    Args:
        rng: where the points come from.
        size: side of the tile, in pixels.
        pitch: side of the squares, as a share of the tile's side.

    Returns:
        (dx, dy, cell, cells): the offsets from each pixel to the points of the nine squares around
        it, in squares; the numbers of these points; and the number of all points.
    """
    squares = max(1 / pitch, 1.5)
    across = int(np.ceil(squares)) + 3
    start = rng.random(2)
    jitter = rng.random((2, across * across), dtype=np.float32)
    position = np.arange(size) * (squares / size) + 1
    offsets, numbers = [], []
    for axis_start in start:
        axis = position + axis_start
        square = axis.astype(np.intp) + np.arange(-1, 2)[:, None]
        offsets.append((square - axis).astype(np.float32))
        numbers.append(square)
    (to_x, to_y), (column, row) = offsets, numbers
    cell = row[:, None, :, None] * across + column[None, :, None, :]
    dx = jitter[0].take(cell) + to_x[None, :, None, :]
    dy = jitter[1].take(cell) + to_y[:, None, :, None]
    shape = (9, size, size)
    return dx.reshape(shape), dy.reshape(shape), cell.reshape(shape), across * across


def _fibers(
    rng: np.random.Generator, size: int, cycles: float, warp: Float32[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w"]:
    """Wavy lines in one direction, -1 to 1."""
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    along = np.arange(size, dtype=np.float32) * np.float32(2 * np.pi * cycles / size)
    plane = along * np.float32(np.cos(angle)) + along[:, None] * np.float32(np.sin(angle))
    return np.sin(plane + np.float32(2.2) * warp + np.float32(phase))


def _noise(rng: np.random.Generator, size: int, cycles: float) -> Float32[np.ndarray, "h w"]:
    """Smooth noise of mean 0 and variance 1; structures are 1 / cycles of the tile's side wide."""
    half = (size, size // 2 + 1)
    spectrum = rng.standard_normal((2, *half), dtype=np.float32)
    squared = _squared_frequencies(size) / np.float32(cycles * cycles)
    band = squared * np.exp(-squared)
    field = np.fft.irfft2((spectrum[0] + 1j * spectrum[1]) * band, s=(size, size))
    return (field / field.std()).astype(np.float32)


def _blurred(fields: Float32[np.ndarray, "c h w"], sigma: float) -> Float32[np.ndarray, "c h w"]:
    """Gaussian blur, `sigma` in pixels, edges wrapped."""
    size = fields.shape[-1]
    decay = np.exp(_squared_frequencies(size) * np.float32(-2 * (np.pi * sigma / size) ** 2))
    return np.fft.irfft2(np.fft.rfft2(fields) * decay, s=(size, size)).astype(np.float32)


@functools.cache
def _squared_frequencies(size: int) -> Float32[np.ndarray, "h half"]:
    """Squared frequencies of a real Fourier transform, in cycles per tile."""
    rows = np.fft.fftfreq(size, 1 / size)[:, None]
    columns = np.fft.rfftfreq(size, 1 / size)
    return (rows**2 + columns**2).astype(np.float32)


def _covered(share: float, noise: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """A smooth mask, 0 to 1, of patches that cover about `share` of the tile."""
    # A logistic curve approximates the normal one that turns a share into a level of the noise.
    level = np.log(max(share, 1e-3) / max(1 - share, 1e-3)) / 1.7
    return 1 / (1 + np.exp(np.float32(-9) * (noise + np.float32(level))))
