"""A process that upserts in a race; a module of its own, so that a new process can import it."""

from __future__ import annotations

import json
from multiprocessing.synchronize import Barrier
from pathlib import Path

from lookalike.ingest.store.collection import Store
from support.stores import rows_of

ROUNDS = 100
OLD = [f"old {n}" for n in range(30)]


def ids_of(writer: int, number: int) -> list[str]:
    """The ids that a writer upserts in one round: new ones that all share, old ones that overlap."""
    new = [f"new {number}/{n}" for n in range(6)]
    old = [OLD[(number + writer * 3 + n) % len(OLD)] for n in range(8)]
    return new + old


def write(root: Path, writer: int, barrier: Barrier, log: Path) -> None:
    """Upsert a hundred times, all writers at once, and note which version each bucket's commit became."""
    store = Store.open(root, "default")
    with log.open("w") as file:
        for number in range(ROUNDS):
            barrier.wait()
            committed = store.upsert(rows_of(ids_of(writer, number), tag=f"{writer} in round {number}"))
            file.write(json.dumps({"round": number, "committed": committed}) + "\n")
