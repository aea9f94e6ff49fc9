"""Says which device JAX finds: `... .device ACCELERATOR` prints its platform and kind as JSON.

In a process of its own, as one that has started an accelerator may keep all of its memory.
"""

import json
import sys

import jax

from experiments.reproduce import use_accelerator
from twostage_jax.support.errors import InputError


def main() -> None:
    """Finds the device, or says why not and exits with status 2."""
    try:
        use_accelerator(sys.argv[1])
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    device = jax.devices()[0]
    print(json.dumps({"platform": device.platform, "kind": device.device_kind}))


if __name__ == "__main__":
    main()
