"""Keras started quietly: in a process of its own, since it starts once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("keras", reason="needs the cpu or gpu extra")

START = "from lookalike.model import keras_runtime; print(keras_runtime.start(2), keras_runtime.start(1))"


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"} | environment
    return subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=False, env=variables)


def test_start_takes_tensorflow_and_writes_nothing() -> None:
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "tensorflow tensorflow\n", "")


def test_start_shows_what_was_written_when_it_fails() -> None:
    done = run(KERAS_BACKEND="none-of-these")
    assert done.returncode != 0
    assert "none-of-these" in done.stderr
