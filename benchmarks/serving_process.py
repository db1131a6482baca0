"""`lookalike serve` of some checkout, with all processes that it starts: their roles, CPU and memory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from serving_client import Request, ask_once
from serving_requests import http

# What the server starts inherits this variable, also what is no child of it any more. (Ray's workers write their title
# over it: those are found as children.)
_MARK = "LOOKALIKE_BENCHMARK"
START_S = 900.0
STOP_S = 60.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_ACTORS = {
    "ShardActor": "shard",
    "WriterActor": "writer",
    "Supervisor": "supervisor",
    "ServeController": "Serve controller",
    "ProxyActor": "Serve proxy actor",
}
_PROGRAMS = {"haproxy": "HAProxy", "gcs_server": "GCS", "raylet": "raylet"}


@dataclass(frozen=True)
class Checkout:
    """What serves.

    Attributes
    ----------
    shards : int
        0: as many as the server chooses.
    """

    repo: Path
    python: Path
    shards: int

    @property
    def name(self) -> str:
        shards = "" if not self.shards else f", {self.shards} shard{'s' * (self.shards > 1)}"
        return f"{self.repo.name}{shards}"


def commit_of(repo: Path) -> str:
    """The commit of a checkout, and whether it was changed since."""
    command = ["git", "-C", str(repo), "describe", "--always", "--dirty", "--abbrev=9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


@dataclass
class Server:
    """A running server.

    Attributes
    ----------
    first_answer_s : float
        From the start of the command to the first answer to a search.
    """

    checkout: Checkout
    port: int
    mark: str
    process: subprocess.Popen[str]
    first_answer_s: float = 0.0
    first_photo_ms: float = 0.0
    shard_of: dict[int, str] = field(default_factory=dict)

    def get(self, path: str) -> Any:
        """The JSON of a GET, or None where the answer is no 200."""
        status, body = self._ask("GET", path)
        return json.loads(body) if status == 200 else None

    def post(self, path: str, body: bytes, content_type: str) -> Any:
        status, content = self._ask("POST", path, body, content_type)
        if status != 200:
            raise ValueError(f"POST {path}: {status} {content[:300]!r}")
        return json.loads(content)

    def text(self, path: str) -> str:
        """The text of a GET, empty where the answer is no 200."""
        status, body = self._ask("GET", path)
        return body.decode() if status == 200 else ""

    def _ask(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> tuple[int, bytes]:
        status, content = ask_once(self.port, http(method, path, body, content_type), timeout_s=60.0)
        return status, content

    def processes(self) -> dict[int, str]:
        """The role of every process of the server, by pid."""
        return {process.pid: role for process in self._processes() if (role := self._role(process))}

    def _processes(self) -> set[psutil.Process]:
        found: set[psutil.Process] = set()
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            found.update([root, *root.children(recursive=True)])
        for process in psutil.process_iter():
            if process not in found and _is_marked(process.pid, self.mark):
                found.add(process)
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.update(process.children(recursive=True))
        return found

    def name_shards(self) -> None:
        """Learn which process holds which shard, as the status says."""
        status = self.get("/v1/status") or {"collections": []}
        for collection in status["collections"]:
            for number, shard in enumerate(collection["shards"]):
                self.shard_of |= dict.fromkeys(shard.get("pids", []), f"shard {number}")

    def _role(self, process: psutil.Process) -> str:
        """What a process is; empty where it has ended."""
        try:
            words = [word for word in process.cmdline() if word]
            if process.pid == self.process.pid:
                return "lookalike serve"
            role = self.shard_of.get(process.pid) or _role_of(words) if words else ""
            parent = process.parent() if role == "child" else None
        except psutil.Error:
            return ""
        return f"child of {self._role(parent)}" if parent is not None else role

    def cpu(self) -> dict[tuple[str, str], float]:
        """CPU seconds so far of every thread that lives, by role and the kind of the thread."""
        seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        for pid, role in self.processes().items():
            of_threads = 0.0
            for task in _listed(Path(f"/proc/{pid}/task")):
                name, used = _cpu_of(task / "stat")
                seconds[role, name] += used
                of_threads += used
            seconds[role, "ended threads, rounding"] += _cpu_of(Path(f"/proc/{pid}/stat"))[1] - of_threads
        return dict(seconds)

    def memory(self) -> dict[str, float]:
        """Proportional set size in MB, by role."""
        size: defaultdict[str, float] = defaultdict(float)
        for pid, role in self.processes().items():
            found = re.search(r"^Pss: +(\d+) kB", _read(Path(f"/proc/{pid}/smaps_rollup")), re.MULTILINE)
            size[role] += int(found[1]) / 1e3 * 1.024 if found else 0
        return {role: round(mb, 1) for role, mb in largest_first(size)}

    def anonymous_mb(self) -> float:
        """Memory without file pages, of all processes: cheap to ask."""
        texts = (_read(Path(f"/proc/{pid}/status")) for pid in self.processes())
        found = (re.search(r"^RssAnon:\s+(\d+) kB", text, re.MULTILINE) for text in texts)
        return sum(int(size[1]) for size in found if size) / 1e3 * 1.024

    def stop(self) -> None:
        """Stop it as Ctrl-C does; what has not ended then is killed."""
        processes = self._processes()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        for process in psutil.wait_procs(processes, timeout=5)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


def largest_first(sizes: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(sizes.items(), key=lambda item: -item[1])


def _role_of(words: list[str]) -> str:
    """What a process is, by its command line."""
    title = re.match(r"ray::([\w:.\- ]+)", " ".join(words))
    if title is not None:
        name = title[1].split(".")[0].strip()
        if name.startswith("ServeReplica"):
            part = name.rpartition(":")[2]
            return "ingress" if part == "Ingress" else re.sub(r"-default$", "", part)
        return _ACTORS.get(name, f"Ray {name}")
    program = Path(words[0]).name
    if program in _PROGRAMS:
        return _PROGRAMS[program]
    if any("multiprocessing" in word for word in words):
        return "child"
    return next(("/".join(Path(word).parts[-2:]) for word in words if word.endswith(".py")), program)


def _is_marked(pid: int, mark: str) -> bool:
    try:
        return f"{_MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it ended, or is another user's
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process ended
        return ""


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _cpu_of(stat: Path) -> tuple[str, float]:
    """The name of a process or thread, numbers left out, and its CPU seconds."""
    text = _read(stat)
    name, _, fields = text[text.find("(") + 1 :].rpartition(")")
    used = [int(value) for value in fields.split()[11:13]]
    return re.sub(r"[\d.:_/-]+$", "", name), sum(used) / _TICKS_PER_S


def free_port() -> int:
    """A port that is free now, below those that the system gives to outgoing connections and servers to themselves."""
    while True:
        port = random.randrange(10_000, 20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def serving(checkout: Checkout, store: Path, search: Request, photo: Request) -> Iterator[Server]:
    """Serve a store until the block ends.

    Parameters
    ----------
    search, photo : Request
        Requests that the server has to answer with 200 before the block begins.
    """
    mark, port = uuid.uuid4().hex, free_port()
    command = [str(checkout.python), "-m", "lookalike.cluster.cli.main", "serve", "--store", str(store)]
    command += ["--port", str(port), *(["--shards", str(checkout.shards)] if checkout.shards else [])]
    environment = os.environ | {"PYTHONPATH": str(checkout.repo), _MARK: mark}
    with tempfile.TemporaryFile("w+") as log:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            text=True,
            cwd=checkout.repo,
            env=environment,
            start_new_session=True,
        )
        server = Server(checkout, port, mark, process)
        try:
            while _first(port, search) is None:
                if process.poll() is not None or time.monotonic() - started > START_S:
                    log.seek(0)
                    raise RuntimeError(f"{checkout.name} does not serve: {log.read()[-3000:]}")
                time.sleep(0.05)
            server.first_answer_s = round(time.monotonic() - started, 2)
            server.first_photo_ms = _first(port, photo) or float("nan")
            server.name_shards()
            yield server
        finally:
            server.stop()


def _first(port: int, request: Request) -> float | None:
    """Milliseconds to the answer; None if it is no 200."""
    started = time.perf_counter()
    status, _ = ask_once(port, request, timeout_s=20.0)
    return round(1e3 * (time.perf_counter() - started), 2) if status == 200 else None
