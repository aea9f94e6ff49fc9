"""Processes of the benchmarks' engines."""

import json
import os
import re
import subprocess
import sys

from twostage_jax.support.errors import InputError


def environment(platform: str) -> dict[str, str]:
    """Of a process whose JAX runs on a platform; empty: on what it finds."""
    # Programs compiled by others would make first calls look quick.
    variables = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    if platform == "cpu":
        variables["JAX_PLATFORMS"] = "cpu"
    return variables


def run_module(module: str, argument: str, platform: str) -> subprocess.CompletedProcess:
    """Runs a module with an argument to its end."""
    command = [sys.executable, "-m", module, argument]
    return subprocess.run(command, env=environment(platform), capture_output=True, text=True)


def reason(process: subprocess.CompletedProcess) -> str:
    """Why a process failed, in a line."""
    return reason_in(process.stderr)


def reason_in(said: str) -> str:
    """The line of a traceback that names the error, which JAX follows with others; or the last."""
    lines = said.strip().splitlines() or ["no reason given"]
    return next((line for line in reversed(lines) if re.match(r"[\w.]*Error: ", line)), lines[-1])


def find_device(accelerator: str) -> dict[str, str]:
    """Platform and kind of the device that JAX runs on.

    Raises:
        InputError: JAX does not find the accelerator.
    """
    process = run_module("experiments.benchmarks.device", accelerator, platform="")
    if process.returncode:
        raise InputError(reason(process))
    return json.loads(process.stdout)
