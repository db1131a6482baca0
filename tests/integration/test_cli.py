"""The command line with a store and a server: refusals that say what to do, and an end that leaves nothing behind."""

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
from support.stores import collection_in, new_collection, rows_of, write_spec

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A store that could be served, were it not for what the test does to it."""
    new_collection(tmp_path / "store", buckets=1).put(rows_of(["a"]))
    return tmp_path / "store"


def test_serve_and_demo_refuse_a_port_in_use(small: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for command in (("serve", "--store", str(small)), ("demo", "--store", str(small))):
            done = lookalike(*command, "--port", str(port), check=False)
            assert (done.returncode, "choose another --port" in done.stderr) == (1, True), done.stderr


def test_serve_refuses_a_model_that_does_not_fit_the_store(small: Path, sample: Path, tmp_path: Path) -> None:
    other = write_spec(tmp_path / "other", name="other", arrays="1" * 64)
    shutil.copy(other / "model.json", collection_in(small).model_location.path / "model.json")
    done = lookalike("serve", "--store", str(small), "--port", str(free_port()), check=False)
    assert done.returncode == 1
    assert "'default'" in done.stderr
    assert "tiny-1" in done.stderr
    assert "other-1" in done.stderr


def test_serve_refuses_more_shards_than_buckets(small: Path) -> None:
    done = lookalike("serve", "--store", str(small), "--port", str(free_port()), "--shards", "2", check=False)
    assert (done.returncode, "give 1 to 1" in done.stderr) == (1, True), done.stderr


def test_serve_refuses_a_store_that_cannot_be_written(small: Path, sample: Path, tmp_path: Path) -> None:
    if subprocess.run(["mount", "--bind", "-o", "ro", small, small], check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", small], check=True)
        done = lookalike("serve", "--store", str(small), "--port", str(free_port()), check=False)
        assert (done.returncode, "Read-only" in done.stderr) == (1, True), done.stderr
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.timeout(400)
def test_demo_ctrl_c_stops_all_that_it_started(tmp_path: Path) -> None:
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
