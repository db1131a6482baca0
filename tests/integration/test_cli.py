"""The command line: help, exit statuses, and refusals that say what to do."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.processes import START_S, free_port, lookalike
from support.stores import rows_of, write_spec

from lookalike.ingest.store.collection import Store

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "command",
    [(), ("demo",), ("sample",), ("encode",), ("serve",), ("search",), ("status",), ("model",), ("model", "fit")],
)
def test_help(command: tuple[str, ...]) -> None:
    assert "Usage:" in lookalike(*command, "--help").stdout


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = {"ray", "tensorflow", "keras", "lance", "pyarrow"}
    code = f"import sys, lookalike.cluster.cli.main; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("nonsense",), 2, "No such command"),
        (("encode", "x"), 2, "--store"),
        (("serve", "--store", "x", "--port", "99999"), 2, "65535"),
        (("serve", "--store", "s3://bucket"), 2, "local folder"),
        (("serve", "--store", "no such store"), 1, "make one with `lookalike encode`"),
        (("encode", "no such catalogue", "--store", "x"), 1, "no such catalogue"),
        (("search", "x", "--url", "http://127.0.0.1:9"), 1, "start one with `lookalike serve`"),
        (("sample", "/dev/null/x"), 1, "/dev/null"),
    ],
)
def test_wrong_use_and_failed_work(arguments: tuple[str, ...], status: int, words: str) -> None:
    done = lookalike(*arguments, check=False)
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A store that could be served, were it not for what the test does to it."""
    store = Store.create(tmp_path / "store", "default", write_spec(tmp_path / "model"), buckets=1)
    store.upsert(rows_of(["a"]))
    return tmp_path / "store"


def test_a_port_in_use(small: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for command in (("serve", "--store", str(small)), ("demo", "--store", str(small))):
            done = lookalike(*command, "--port", str(port), check=False)
            assert (done.returncode, "choose another --port" in done.stderr) == (1, True), done.stderr


def test_a_model_that_does_not_fit_the_store(small: Path, sample: Path, tmp_path: Path) -> None:
    other = write_spec(tmp_path / "other", name="other", arrays="1" * 64)
    shutil.copy(other / "model.json", Store.open(small, "default").model_folder / "model.json")
    done = lookalike("serve", "--store", str(small), "--port", str(free_port()), check=False)
    assert done.returncode == 1
    assert "'default'" in done.stderr
    assert "tiny-1" in done.stderr
    assert "other-1" in done.stderr


def test_more_shards_than_buckets(small: Path) -> None:
    done = lookalike("serve", "--store", str(small), "--port", str(free_port()), "--shards", "2", check=False)
    assert (done.returncode, "give 1 to 1" in done.stderr) == (1, True), done.stderr


def test_a_store_that_cannot_be_written(small: Path, sample: Path, tmp_path: Path) -> None:
    if subprocess.run(["mount", "--bind", "-o", "ro", small, small], check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", small], check=True)
        done = lookalike("serve", "--store", str(small), "--port", str(free_port()), check=False)
        assert (done.returncode, "Read-only" in done.stderr) == (1, True), done.stderr
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.timeout(400)
def test_ctrl_c_stops_all_that_the_demo_started(tmp_path: Path) -> None:
    """On the way a second run of the demo over its own folder, as `make demo` twice in a row would do."""
    command = [sys.executable, "-m", "lookalike.cluster.cli.main", "demo", "--store", str(tmp_path), "--images", "40"]
    lookalike("sample", str(tmp_path / "sample-40"), "--images", "40")
    log = tmp_path / "log"
    with log.open("w") as out:
        demo = subprocess.Popen(
            # "trap" as a script that starts it in the background: there SIGINT would be ignored.
            ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command, "--port", str(free_port())],
            stdout=out,
            stderr=out,
            text=True,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_S
    while " is ready;" not in log.read_text():
        assert demo.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    started = psutil.Process(demo.pid).children(recursive=True)
    assert len(started) > 5
    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: to the whole group
    assert demo.wait(60) == 0, log.read_text()
    _, left = psutil.wait_procs(started, timeout=20)
    assert left == []
    assert "Traceback" not in log.read_text(), log.read_text()
