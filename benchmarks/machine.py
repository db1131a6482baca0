"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> dict[str, object]:
    """The CPU, its cores, and the version of Python."""
    return {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}


def cpu_name() -> str:
    """The model of the CPU, as Linux says it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
