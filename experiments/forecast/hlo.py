"""Reads a compiled program as XLA prints it: computations, their instructions, and shapes."""

import math
import re
from typing import NamedTuple

_BITS = {"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128}
_COMMENT = re.compile(r"/\*.*?\*/")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_ASSIGNED = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = ")
_SHAPE = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_NAME = re.compile(r"%([\w.\-]+)")


class Shape(NamedTuple):
    """An array.

    Attributes:
        dtype: as XLA writes it, such as `f32`.
        dims: its sizes.
        bytes: that it takes as it is laid out, with the padding of tiles.
        packed: bytes without that padding.
        beside: whether it lies in another memory than the main one, such as a TPU's VMEM.
    """

    dtype: str
    dims: tuple[int, ...]
    bytes: int
    packed: int
    beside: bool

    def __str__(self) -> str:
        """As XLA writes it, without its layout."""
        return f"{self.dtype}[{','.join(map(str, self.dims))}]"

    @property
    def elements(self) -> int:
        """Number of elements, without padding."""
        return math.prod(self.dims)


class Instruction(NamedTuple):
    """A line of a computation.

    Attributes:
        name: unique in its computation.
        opcode: such as `fusion`.
        shapes: of the result; several of a tuple.
        operands: names of instructions of the same computation.
        inside: what stands in the parentheses, such as the number of a parameter.
        attributes: what follows the parentheses.
        is_root: whether it is the result of its computation.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    inside: str
    attributes: str
    is_root: bool

    def called(self, attribute: str) -> str | None:
        """The computation that an attribute such as `calls` or `body` names."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
        return found and found[1]

    @property
    def op_name(self) -> str:
        """Where it comes from in the traced function; empty if that is not known."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""


Computation = dict[str, Instruction]


class Module(NamedTuple):
    """A program: the name of its first computation, and all computations by their names."""

    entry: str
    computations: dict[str, Computation]


def read_module(text: str) -> Module:
    """Reads what `jax.stages.Compiled.as_text` returns."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line.startswith("}"):
            current = None
        elif current is not None:
            if (instruction := read_instruction(line)) is not None:
                current[instruction.name] = instruction
        elif header := _HEADER.match(line):
            current = computations[header[2]] = {}
            entry = header[2] if header[1] else entry
    return Module(entry, computations)


def read_instruction(line: str) -> Instruction | None:
    """Reads a line of a computation; None if it is none."""
    line = _COMMENT.sub("", line)
    if not (assigned := _ASSIGNED.match(line)):
        return None
    start = assigned.end()
    end = _closing(line, start) if line[start] == "(" else line.find(" ", start)
    if not (opcode := _OPCODE.match(line, end)):
        return None
    last = _closing(line, opcode.end() - 1)
    inside = line[opcode.end() : last - 1]
    return Instruction(
        assigned[2],
        opcode[1],
        read_shapes(line[start:end]),
        tuple(_NAME.findall(inside)),
        inside,
        line[last:],
        bool(assigned[1]),
    )


def read_shapes(text: str) -> tuple[Shape, ...]:
    """The arrays of a result type, in their order."""
    return tuple(
        _shape(dtype, tuple(int(n) for n in dims.split(",") if n), layout or "")
        for dtype, dims, layout in _SHAPE.findall(text)
    )


def _shape(dtype: str, dims: tuple[int, ...], layout: str) -> Shape:
    order, _, rest = layout.partition(":")
    tile = re.match(r"T\(([\d,]+)\)", rest)
    space = re.search(r"S\((\d+)\)", rest)
    laid_out = list(dims)
    if tile and order:
        # The first dimension of the layout is the one whose neighbors lie side by side.
        minor = [int(n) for n in order.split(",")]
        for dim, size in zip(minor, reversed(tile[1].split(",")), strict=False):
            laid_out[dim] = -(-laid_out[dim] // int(size)) * int(size)
    bits = _BITS[dtype] if dtype in _BITS else int(re.search(r"\d+", dtype)[0])
    sizes = (-(-math.prod(each) * bits // 8) for each in (laid_out, dims))
    return Shape(dtype, dims, *sizes, bool(space and space[1] != "0"))


def _closing(line: str, start: int) -> int:
    """The position after the parenthesis that closes the one at `start`."""
    depth = 0
    for found in re.finditer(r"[()]", line[start:]):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return start + found.end()
    return len(line)
