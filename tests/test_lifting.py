"""Members over devices: eight forced ones, in a process of their own."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twostage_jax.training.lifting import Lifted, over_members

EIGHT_DEVICES = """
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp
import numpy as np
from twostage_jax.training.lifting import Lifted, over_members

@over_members(shared=("table", "scale"))
def function(x, table, scale):
    return {"sum": (x * scale) @ table, "x": x + 1}

table = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
for members in (1, 3, 8, 10, 16, 19):
    x = np.random.default_rng(members).standard_normal((members, 3)).astype(np.float32)
    for sequential in (True, False):
        lifted = Lifted(function, sequential=sequential)
        found = lifted(x, table, 2.0)
        used = len(found["x"].sharding.device_set)
        assert used == 8 or members % 8, (members, used)
        for member in range(members):
            np.testing.assert_allclose(found["sum"][member], 2 * x[member] @ table, rtol=1e-5)
            np.testing.assert_array_equal(found["x"][member], x[member] + 1)
        again = lifted(found["x"], table, 2.0)
        np.testing.assert_array_equal(again["x"], x + 1 + 1)
        assert lifted.compiled == 1 or not sequential
print("as alone")
"""


def test_any_number_of_members_on_eight_devices():
    """Also where it is no multiple of the devices; results of one call feed the next."""
    ran = subprocess.run([sys.executable, "-c", EIGHT_DEVICES], capture_output=True, text=True)
    assert ran.stdout == "as alone\n", ran.stderr


@pytest.mark.parametrize("sequential", [True, False])
def test_arguments_may_be_shared_or_nested(sequential):
    """Shared ones have no member axis, others may be trees."""

    @over_members(shared=("offset",))
    def function(tree, offset):
        return tree["a"] + tree["b"] + offset

    tree = {"a": jnp.arange(6.0).reshape(3, 2), "b": np.ones((3, 2), np.float32)}
    lifted = Lifted(function, sequential=sequential)
    np.testing.assert_array_equal(lifted(tree, 5), tree["a"] + 6)
    np.testing.assert_array_equal(lifted(tree, jnp.float32(7)), tree["a"] + 8)


def test_donated_arguments_are_used_up():
    """The state of a call is the memory of the next."""

    @over_members(donated=("x",))
    def function(x):
        return x + 1

    lifted = Lifted(function)
    x = jnp.zeros((1, 1000))
    assert (lifted(x) == 1).all()
    assert x.is_deleted()
    assert jax.local_device_count() == 1
