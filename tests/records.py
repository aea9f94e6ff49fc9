"""Comparing records in tests."""

import dataclasses
import json

from twostage_jax.study.record import TENSORS, Record

CIRCUMSTANCES = ("versions", "device", "seconds")  # may differ between runs of the same unit


def same_result(a: Record, b: Record) -> bool:
    """Whether two records agree bit for bit in all but times, device and versions.

    NaNs of equal bits are equal, 0 and -0 are not; settings are compared as JSON holds them.
    """
    return _text(a) == _text(b) and all(
        getattr(a, name).shape == getattr(b, name).shape
        and getattr(a, name).tobytes() == getattr(b, name).tobytes()
        for name in TENSORS
    )


def _text(record: Record) -> str:
    names = [field.name for field in dataclasses.fields(record)]
    fields = {n: getattr(record, n) for n in names if n not in (*TENSORS, *CIRCUMSTANCES)}
    return json.dumps(fields | {"key": dataclasses.asdict(record.key)}, sort_keys=True)
