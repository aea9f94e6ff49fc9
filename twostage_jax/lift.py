"""Lifting: a function is written for one network and runs for many."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# Backends on which members run one after another: there one network keeps all cores busy.
SEQUENTIAL = ("cpu",)


class Lifted:
    """A function of one member, compiled and lifted over a leading member axis."""

    def __init__(
        self,
        function: Callable,
        *,
        shared: tuple[int, ...] = (),
        donated: tuple[int, ...] = (),
        sequential: bool | None = None,
    ):
        """Nothing is compiled before the first call.

        Args:
            function: pure, of positional arguments.
            shared: positions of the arguments that all members share, without a member axis.
            donated: positions of the arguments whose memory the result may reuse.
            sequential: call one compiled program for a member at a time rather than one for all
                of them (`jax.vmap`); by default as measured best for the backend. Each member
                then gets bit for bit what it would get alone.
        """
        self._shared = shared
        if sequential is None:
            sequential = jax.default_backend() in SEQUENTIAL
        self._sequential = sequential
        self._program = jax.jit(
            function if sequential else self._over_members(function), donate_argnums=donated
        )

    def _over_members(self, function: Callable) -> Callable:
        def lifted(*arguments):
            axes = [None if i in self._shared else 0 for i in range(len(arguments))]
            return jax.vmap(function, in_axes=axes)(*arguments)

        return lifted

    def _of_member(self, arguments: tuple, member: int) -> list:
        return [
            argument if i in self._shared else jax.tree.map(lambda leaf: leaf[member], argument)
            for i, argument in enumerate(arguments)
        ]

    def __call__(self, *arguments):
        """Applies the function to every member; results have a leading member axis."""
        if not self._sequential:
            return self._program(*arguments)
        own = next(a for i, a in enumerate(arguments) if i not in self._shared)
        members = range(len(jax.tree.leaves(own)[0]))
        results = [self._program(*self._of_member(arguments, member)) for member in members]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    def memory(self, *arguments) -> int:
        """Bytes of device memory that a call takes, as XLA plans it; compiles the program.

        Members that run one after another count in full: the arguments of those that wait, too.

        Args:
            arguments: as for a call; arrays, or their shapes (`jax.ShapeDtypeStruct`).
        """
        waiting = 0
        if self._sequential:
            everyone = jax.eval_shape(lambda *own: own, *arguments)
            arguments = jax.eval_shape(lambda *own: self._of_member(own, 0), *arguments)
            waiting = _bytes(everyone) - _bytes(arguments)
        plan = self._program.lower(*arguments).compile().memory_analysis()
        inside = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
        return inside + plan.temp_size_in_bytes + waiting


def _bytes(shapes) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
