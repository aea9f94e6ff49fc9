"""Operations of matrix products and convolutions, from their shapes and attributes."""

import math
import re

import numpy as np

from experiments.forecast.hlo import Instruction, Shape

_FLOAT32 = {"highest": "float32", "high": "tf32"}
_BY_DTYPE = {"bf16": "bfloat16", "f16": "bfloat16", "s8": "int8", "u8": "int8", "f64": "float32"}
# In which order cuDNN's calls have the images, the filter and the result of the convolution.
_CUDNN = {"Forward": "iko", "BackwardInput": "oki", "BackwardFilter": "iok"}


def product_operations(
    instruction: Instruction, operands: list[tuple[Shape, ...]]
) -> tuple[str, int] | None:
    """The peak that bounds a product and its operations; None if it is no product.

    A multiply-add counts as two operations.

    Args:
        instruction: a dot, a convolution or a call of a library for them; others give None.
        operands: shapes of its operands, in their order.

    Returns:
        the name of the peak (`float32`, `tf32`, `bfloat16`, `int8`, or `default` for float32
        without a precision), and the number of operations.
    """
    attributes = instruction.attributes
    if instruction.opcode == "dot":
        contracted = _numbers(r"lhs_contracting_dims={([\d,]*)}", attributes)
        made = _contraction(instruction.shapes[0], operands[0][0], contracted)
    elif instruction.opcode == "convolution":
        made = convolution(operands[0][0], operands[1][0], instruction.shapes[0], attributes)
    elif instruction.opcode == "custom-call" and "__cublas" in attributes:
        found = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', attributes)
        contracted = [int(n) for n in re.findall(r"\d+", found[1])] if found else []
        made = _contraction(instruction.shapes[0], operands[0][0], contracted)
    elif instruction.opcode == "custom-call" and "__cudnn$conv" in attributes:
        kind = re.search(r"__cudnn\$conv(Backward(?:Input|Filter)|Forward)", attributes)
        given = operands[0][0], operands[1][0], instruction.shapes[0]
        by_role = dict(zip(_CUDNN[kind[1] if kind else "Forward"], given, strict=True))
        made = convolution(by_role["i"], by_role["k"], by_role["o"], attributes)
    else:
        return None
    return _peak(operands[0][0].dtype, attributes), made


def _peak(dtype: str, attributes: str) -> str:
    if dtype in _BY_DTYPE:
        return _BY_DTYPE[dtype]
    precision = re.search(r'operand_precision"?[=:][{\[]"?(\w+)', attributes)
    return _FLOAT32.get(precision[1].lower() if precision else "", "default")


def _contraction(result: Shape, left: Shape, contracted: list[int]) -> int:
    return 2 * result.elements * math.prod(left.dims[dim] for dim in contracted)


def convolution(images: Shape, kernel: Shape, result: Shape, attributes: str) -> int:
    """Operations of a convolution without those that meet padding or holes of dilation.

    Args:
        images, kernel, result: of the forward convolution that `attributes` describe.
        attributes: with `dim_labels` and, unless all windows are points, `window`.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", attributes)
    if labels is None:
        return 0
    window = re.search(r"window={([^}]*)}", attributes)
    sides = _window(window[1] if window else "")
    valid = 1
    for dim in sorted(set(labels[1]) - {"b", "f"}):
        side = {name: values[int(dim)] for name, values in sides.items() if values}
        valid *= _valid(
            images.dims[labels[1].index(dim)],
            kernel.dims[labels[2].index(dim)],
            result.dims[labels[3].index(dim)],
            side,
        )
    batch = result.dims[labels[3].index("b")]
    into, out = (kernel.dims[labels[2].index(label)] for label in "io")
    return 2 * batch * into * out * valid


def _window(text: str) -> dict[str, list]:
    """The settings of a window, per spatial dimension."""
    sides: dict[str, list] = {}
    for name, values in re.findall(r"(\w+)=(\S+)", text):
        parts = values.split("x")
        sides[name] = [[int(n) for n in part.split("_")] for part in parts]
    return sides


def _valid(size: int, taps: int, results: int, side: dict[str, list[int]]) -> int:
    """Pairs of a result and a tap, in one dimension, that meet a number of the images."""
    one = [1]
    stride, holes = side.get("stride", one)[0], side.get("lhs_dilate", one)[0]
    spread, before = side.get("rhs_dilate", one)[0], side.get("pad", [0, 0])[0]
    at = np.arange(results)[:, None] * stride + np.arange(taps) * spread - before
    inside = (at >= 0) & (at <= (size - 1) * holes) & (at % holes == 0)
    return int(inside.sum())


def _numbers(pattern: str, text: str) -> list[int]:
    found = re.search(pattern, text)
    return [int(n) for n in found[1].split(",") if n] if found else []
