"""The kernels of a step of a compiled program: what each reads, writes and computes.

Bytes are counted as if nothing stayed in a cache between kernels. An operand that a kernel takes
slices or gathered rows of counts what is taken, and a table that is updated in place counts the
update. Of a TPU the main memory alone counts, not the memory on the chip.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from experiments.forecast.hlo import Computation, Instruction, Module, Shape, read_module
from experiments.forecast.products import product_operations

READING = 1
"""Counts up where the same program would give other numbers; older forecasts are then redone."""

# Nothing runs for these.
_FREE = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all"}
_FREE |= {"opt-barrier", "partition-id", "replica-id", "add-dependency"}
_FREE_CALLS = ("AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound", "Sharding")
# These move data without computing; whatever is not listed computes one operation per element.
_MOVING = {"copy", "broadcast", "reshape", "transpose", "slice", "concatenate", "pad", "iota"}
_MOVING |= {"gather", "dynamic-slice", "dynamic-update-slice", "reverse", "convert", "fusion"}
_MOVING |= {"custom-call", "bitcast-convert", "scatter"} | _FREE
_OVER_OPERANDS = {"reduce", "reduce-window", "select-and-scatter"}
_TAKING = ("gather", "dynamic-slice")


class Kernel(NamedTuple):
    """What runs as one.

    Attributes:
        name: of its instruction.
        opcode: such as `fusion`.
        op_name: where it comes from in the traced function.
        shape: its largest result, such as `f32[8,16]`.
        times: how often it runs per step.
        bytes: that it reads and writes in the main memory, each time.
        products: operations of matrix products, each time, by the name of the peak.
        vector: all other operations, each time.
        cycles: that the compiler expects, each time; 0 where it does not say.
        beside: whether it only moves data while others compute.
    """

    name: str
    opcode: str
    op_name: str
    shape: str
    times: int
    bytes: int
    products: dict[str, int]
    vector: int
    cycles: int
    beside: bool = False

    @property
    def operations(self) -> int:
        """All operations, each time."""
        return sum(self.products.values()) + self.vector


def read_step(text: str, loop: bool) -> list[Kernel]:
    """The kernels of a step.

    Args:
        text: of the compiled program.
        loop: whether a step is an iteration of the loop with the most kernels, or else the whole
            program.
    """
    module = read_module(text)
    if not loop:
        return list(_kernels(module, module.entry, 1))
    bodies = [
        list(_kernels(module, body, 1))
        for computation in module.computations.values()
        for instruction in computation.values()
        if instruction.opcode == "while" and (body := instruction.called("body"))
    ]
    return max(bodies, key=len, default=[])


def _kernels(module: Module, name: str, times: int) -> Iterator[Kernel]:
    """The kernels of a computation, with those of loops and calls in it."""
    computation = module.computations.get(name, {})
    for instruction in computation.values():
        opcode = instruction.opcode
        if opcode == "while":
            trips = re.search(r'known_trip_count":{"n":"(\d+)"', instruction.attributes)
            body = instruction.called("body") or ""
            yield from _kernels(module, body, times * (int(trips[1]) if trips else 1))
        elif opcode in ("call", "async-start") and (
            called := instruction.called("to_apply") or instruction.called("calls")
        ):
            yield from _kernels(module, called, times)
        elif opcode == "conditional":
            yield from _longest_branch(module, instruction, times)
        elif not _is_free(instruction):
            yield _kernel(module, computation, instruction, times)


def _longest_branch(module: Module, instruction: Instruction, times: int) -> list[Kernel]:
    text = re.sub(r"metadata=.*", "", instruction.attributes)
    names = [name for name in re.findall(r"%([\w.\-]+)", text) if name in module.computations]
    return max((list(_kernels(module, name, times)) for name in names), key=len, default=[])


def _is_free(instruction: Instruction) -> bool:
    if instruction.opcode == "custom-call":
        return any(f'"{name}"' in instruction.attributes for name in _FREE_CALLS)
    return instruction.opcode in _FREE or instruction.opcode.endswith("-done")


def _kernel(
    module: Module, computation: Computation, instruction: Instruction, times: int
) -> Kernel:
    cycles = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
    beside = instruction.opcode.endswith("-start")
    products, vector = ({}, 0) if beside else _operations(module, computation, instruction)
    return Kernel(
        instruction.name,
        instruction.opcode,
        instruction.op_name,
        str(max(instruction.shapes, key=lambda shape: shape.elements, default="")),
        times,
        _bytes(module, computation, instruction),
        products,
        vector,
        int(cycles[1]) if cycles else 0,
        beside,
    )


def _main(*shapes: Shape) -> int:
    """Bytes of shapes in the main memory."""
    return sum(shape.bytes for shape in shapes if not shape.beside)


def _bytes(module: Module, computation: Computation, instruction: Instruction) -> int:
    opcode, shapes = instruction.opcode, instruction.shapes
    if opcode == "copy-start":
        return _main(*shapes[:2])
    if opcode == "slice-start":
        source, target = shapes[:2]
        return target.bytes * ((not source.beside) + (not target.beside))
    called = instruction.called("calls") if opcode == "fusion" else None
    if called is None:
        # As in a fusion, with the instruction alone in it.
        inside: Computation = {name: computation[name] for name in instruction.operands}
        inside[instruction.name] = instruction._replace(is_root=True)
        parameters = list(instruction.operands)
    else:
        inside = module.computations[called]
        parameters = _parameters(inside)
    total = 0
    for name, parameter in zip(instruction.operands, parameters, strict=False):
        whole = _main(*computation[name].shapes) if name in computation else 0
        total += min(whole, _taken(module, inside, parameter, whole)) if whole else 0
    written = _written(inside)
    for i, shape in enumerate(shapes):
        update = written[i] if i < len(written) else None
        if not shape.beside:
            total += shape.bytes if update is None else min(update, shape.bytes)
    return total


def _parameters(inside: Computation) -> list[str]:
    """The names of the parameters of a computation, by their numbers."""
    own = [each for each in inside.values() if each.opcode == "parameter"]
    return [each.name for each in sorted(own, key=lambda each: int(each.inside))]


def _taken(module: Module, inside: Computation, name: str, whole: int) -> int:
    """Bytes that a computation reads of what has this name, at most `whole`."""
    taken = 0
    for user in inside.values():
        if name not in user.operands or user.name == name:
            continue
        first = user.operands[0] == name and user.operands.count(name) == 1
        if user.opcode in _TAKING and first:
            taken += sum(shape.packed for shape in user.shapes)  # of no layout of its own
        elif user.opcode == "dynamic-update-slice" and first:
            pass  # in place: the rest of the table stays where it is
        elif user.opcode == "bitcast" and not user.is_root:
            taken += _taken(module, inside, user.name, whole)
        elif user.opcode == "fusion" and (called := user.called("calls")):
            nested = module.computations[called]
            for operand, own in zip(user.operands, _parameters(nested), strict=False):
                taken += _taken(module, nested, own, whole) if operand == name else 0
        else:
            return whole
    return min(taken, whole)


def _written(inside: Computation) -> list[int | None]:
    """Per result of a computation: bytes of the update, where a table is updated in place."""

    def update(name: str) -> int | None:
        made = inside.get(name)
        while made is not None and made.opcode == "bitcast":
            made = inside.get(made.operands[0])
        if made is None or made.opcode != "dynamic-update-slice":
            return None
        source = inside.get(made.operands[1])
        return sum(shape.packed for shape in source.shapes) if source else None

    root = next((each for each in inside.values() if each.is_root), None)
    if root is None:
        return []
    return [update(name) for name in (root.operands if root.opcode == "tuple" else [root.name])]


def _operations(
    module: Module, computation: Computation, instruction: Instruction
) -> tuple[dict[str, int], int]:
    """Operations of products, by their peaks, and all others, with those inside a fusion."""
    if instruction.opcode == "fusion" and (called := instruction.called("calls")):
        products: dict[str, int] = {}
        vector, inside = 0, module.computations[called]
        for each in inside.values():
            own, other = _operations(module, inside, each)
            vector += other
            for peak, number in own.items():
                products[peak] = products.get(peak, 0) + number
        return products, vector
    operands = [computation[name].shapes for name in instruction.operands if name in computation]
    if (found := product_operations(instruction, operands)) is not None:
        return dict([found]), 0
    if instruction.opcode in _MOVING:
        return {}, 0
    over = operands[0] if instruction.opcode in _OVER_OPERANDS and operands else instruction.shapes
    return {}, over[0].elements if over else 0
