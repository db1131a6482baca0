"""The README's examples run as printed; only the port and the folder are this test's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.processes import Server

pytestmark = pytest.mark.integration

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture
def folder(server: Server, tmp_path: Path) -> Path:
    """A folder that looks like the repository after `make demo`."""
    (tmp_path / "var" / "demo").mkdir(parents=True)
    (tmp_path / "var" / "demo" / "sample-1200").symlink_to(server.photos)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    return tmp_path


def at(server: Server, text: str) -> str:
    return text.replace("localhost:8000", urlsplit(server.url).netloc)


def test_shell_examples(server: Server, folder: Path) -> None:
    script = at(server, blocks("sh")[0])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | {"LOOKALIKE_URL": server.url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"hits":[{') == 2, done.stdout
    assert "220000000/1" in done.stdout.splitlines()[-6] + done.stdout.splitlines()[-5], done.stdout


def test_python_example(server: Server, folder: Path) -> None:
    code = at(server, blocks("python")[0])
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5


def test_commands_named_in_the_readme_exist() -> None:
    makefile = (README.parent / "Makefile").read_text()
    for target in set(re.findall(r"^ {4}make (\w+)", README.read_text(), re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for name in set(re.findall(r"\]\(([\w/.]+\.md)\)", README.read_text())):
        assert (README.parent / name).exists(), name
