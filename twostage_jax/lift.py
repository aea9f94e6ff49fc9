"""Lifting: a function is written for one network and runs for many."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# Whether members run one after another, by backend. On a CPU one network keeps all cores busy.
SEQUENTIAL = {"cpu": True}


def lift(
    function: Callable,
    *,
    shared: tuple[int, ...] = (),
    donated: tuple[int, ...] = (),
    sequential: bool | None = None,
) -> Callable:
    """Compiles `function` and lifts it over a leading member axis of arguments and results.

    Args:
        function: pure, of positional arguments.
        shared: positions of the arguments that all members share and that have no member axis.
        donated: positions of the arguments whose memory the result may reuse.
        sequential: call one compiled program a member, in turn, rather than one of all members
            (`jax.vmap`); by default as measured best for the backend. The sequential
            form gives each member bit for bit what it would get alone.
    """
    if sequential is None:
        sequential = SEQUENTIAL.get(jax.default_backend(), False)
    if not sequential:

        def all_members(*arguments):
            axes = [None if i in shared else 0 for i in range(len(arguments))]
            return jax.vmap(function, in_axes=axes)(*arguments)

        return jax.jit(all_members, donate_argnums=donated)

    program = jax.jit(function, donate_argnums=donated)

    def one_after_another(*arguments):
        own = [a for i, a in enumerate(arguments) if i not in shared]
        members = len(jax.tree.leaves(own)[0])
        results = []
        for member in range(members):
            slices = (
                a if i in shared else jax.tree.map(lambda leaf, m=member: leaf[m], a)
                for i, a in enumerate(arguments)
            )
            results.append(program(*slices))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return one_after_another
