"""The benchmark of the server runs, and every answer that it compares is exact; how fast is no concern of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(620)  # it starts a server, fits a model and writes a store
def test_serving_benchmark_gives_exact_answers_with_every_kind_of_filter(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/serving.py", "--quick", "--shards", "2"]
    command += ["--only", "id", "filters", "--store", str(tmp_path / "store"), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads(out.read_text())["rows"].values()
    (server,) = found["servers"].values()
    kinds = {label for label in server["loads"] if label.startswith("new filter")}
    assert len(kinds) == 20
    assert all(load["requests"] and not load["failures"] for load in server["loads"].values())
    assert found["compared"] >= len(kinds)
    assert found["wrong"] == 0
