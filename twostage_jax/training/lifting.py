"""Lifting: a function is written for one network and runs for many, on all devices of a machine."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# On these backends a device runs its members one after another: one network keeps all cores busy.
SEQUENTIAL = ("cpu",)
_AXIS = "members"


def over_members(*, shared: Sequence[str] = (), donated: Sequence[str] = ()) -> Callable:
    """Marks a function of one member with what `Lifted` has to know of its arguments.

    Args:
        shared: names of the arguments that all members share, without a member axis.
        donated: names of the arguments whose memory the result may reuse.
    """

    def mark(function: Callable) -> Callable:
        names = [name for name in inspect.signature(function).parameters if name != "self"]
        function.shared = tuple(names.index(name) for name in shared)
        function.donated = tuple(names.index(name) for name in donated)
        return function

    return mark


def replicate(x) -> jax.Array:
    """Puts an array that members share on every device, once for many calls."""
    return jax.device_put(x, NamedSharding(_mesh(jax.local_devices()), PartitionSpec()))


def _mesh(devices: Sequence[Any]) -> Mesh:
    return Mesh(np.array(devices), (_AXIS,))


class Lifted:
    """A function of one member, compiled and lifted over a leading member axis.

    The axis is sharded over a mesh of this process's devices. No member needs another's numbers,
    so devices never wait for each other within a call.
    """

    def __init__(
        self,
        function: Callable,
        *,
        sequential: bool | None = None,
        devices: Sequence[Any] | None = None,
    ):
        """Nothing is compiled before the first call.

        Args:
            function: pure, of positional arguments, marked by `over_members`.
            sequential: run the members of a device one after another, each bit for bit as it would
                run alone, instead of `vmap`-ing over them; by default on a CPU only.
            devices: to run on, by default those of this process. For those of a topology
                (`jax.experimental.topologies`) the program can be compiled, but not called.
        """
        devices = jax.local_devices() if devices is None else devices
        if sequential is None:
            sequential = devices[0].platform in SEQUENTIAL
        self._shared: tuple[int, ...] = function.shared  # pyright: ignore[reportFunctionMemberAccess]
        self._sequential = sequential
        self._mesh = _mesh(devices)
        self._function = function
        donated = function.donated  # pyright: ignore[reportFunctionMemberAccess]
        self.program = jax.jit(self._on_devices, donate_argnums=donated)
        """What is compiled, of arguments with a member axis; for lowering and measuring."""

    @property
    def compiled(self) -> int:
        """How many programs were compiled so far: one per set of shapes."""
        return self.program._cache_size()  # pyright: ignore[reportAttributeAccessIssue]

    def _spec(self, position: int) -> PartitionSpec:
        return PartitionSpec() if position in self._shared else PartitionSpec(_AXIS)

    def _on_devices(self, *arguments):
        """The program of all devices; each device has its members' part of the arguments."""
        positions = range(len(arguments))
        axes = [None if i in self._shared else 0 for i in positions]

        def of_device(*own):
            if not self._sequential:
                return jax.vmap(self._function, in_axes=axes)(*own)
            one = (
                argument if axis is None else jax.tree.map(lambda leaf: leaf[0], argument)
                for argument, axis in zip(own, axes, strict=True)
            )
            return jax.tree.map(lambda leaf: leaf[None], self._function(*one))

        return jax.shard_map(
            of_device,
            mesh=self._mesh,
            in_specs=tuple(map(self._spec, positions)),
            out_specs=PartitionSpec(_AXIS),
            check_vma=False,
        )(*arguments)

    def __call__(self, *arguments):
        """Applies the function to every member; results have a leading member axis."""
        own = next(a for i, a in enumerate(arguments) if i not in self._shared)
        members = len(jax.tree.leaves(own)[0])
        devices = self._mesh.size
        at_once = devices if self._sequential else -(-members // devices) * devices
        results = []
        for first in range(0, members, at_once):
            # The last member fills the places of a call that is not full.
            chosen = np.minimum(np.arange(first, first + at_once), members - 1)
            placed = [self._place(i, a, chosen, members) for i, a in enumerate(arguments)]
            results.append(self.program(*placed))
        if len(results) == 1:
            (result,) = results
        else:
            result = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *results)
        if -members % at_once:
            result = jax.tree.map(lambda leaf: leaf[:members], result)
        return result

    def _place(self, position: int, argument, chosen: np.ndarray, members: int):
        """An argument of one call, on the devices that work on it."""
        if position not in self._shared and not np.array_equal(chosen, np.arange(members)):
            argument = _take(argument, chosen)
        return jax.device_put(argument, NamedSharding(self._mesh, self._spec(position)))

    def memory(self, *arguments) -> int | None:
        """Bytes of a device's memory that a call takes, as XLA plans it; compiles the program.

        In sequential mode this includes the arguments of members that are not running yet.

        Args:
            arguments: as for a call; arrays, or their shapes (`jax.ShapeDtypeStruct`).

        Returns:
            None where the backend does not say.
        """
        waiting, devices = 0, self._mesh.size
        if self._sequential:
            everyone = jax.eval_shape(lambda *all_members: all_members, *arguments)
            arguments = [
                argument
                if i in self._shared
                else jax.tree.map(
                    lambda leaf: jax.ShapeDtypeStruct((devices, *leaf.shape[1:]), leaf.dtype),
                    argument,
                )
                for i, argument in enumerate(everyone)
            ]
            waiting = (_bytes(everyone) - _bytes(arguments)) // devices
        plan: Any = self.program.lower(*arguments).compile().memory_analysis()
        if plan is None:
            return None
        inside = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
        return inside + plan.temp_size_in_bytes + waiting


@jax.jit
def _take(tree, rows):
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def _bytes(shapes) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
