"""The C code by itself: under AddressSanitizer and UndefinedBehaviorSanitizer, and for ARM with NEON under emulation.

The second needs Debian's ``gcc-aarch64-linux-gnu``, ``libc6-dev-arm64-cross`` and ``qemu-user``.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from lookalike.kernels import hamming

HERE = Path(__file__).parent
C_SOURCES = Path(hamming.__file__).parent / "c"


def build(compiler: str, target: Path, *flags: str) -> Path:
    """Compile the check with all variants; a warning is an error."""
    sources = [str(source) for source in sorted(C_SOURCES.rglob("*.c"))]
    command = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{C_SOURCES}", *flags]
    done = subprocess.run(
        [*command, str(HERE / "c_code_check.c"), *sources, "-pthread", "-o", str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


def run(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_c_code_is_clean_under_sanitizers(tmp_path: Path) -> None:
    flags = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    checked = run(str(build("gcc", tmp_path / "check", *flags)))
    assert checked == [variant for variant in reversed(hamming.VARIANTS) if variant != "numpy"]


@pytest.mark.skipif(platform.machine() == "aarch64", reason="NEON runs natively here")
@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")),
    reason="no cross compiler or no emulator for AArch64",
)
def test_c_code_neon_gives_the_same_answers_under_emulation(tmp_path: Path) -> None:
    check = build("aarch64-linux-gnu-gcc", tmp_path / "check", "-static")
    assert run("qemu-aarch64", str(check)) == ["portable", "neon"]
