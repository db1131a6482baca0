"""Medians over the alternations, and a table of them beside the targets."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LARGE = 5_000_000
BY_ID_1, BY_ID_32, OPEN = "by id, 1 client", "by id, 32 clients", "by id, open loop, 64 clients"
PHOTO_1 = "by photo, 1 client"
TABLE = ("no-op, 1 client", BY_ID_1, PHOTO_1, "no-op, 32 clients", BY_ID_32, "by photo, 32 clients", OPEN)
_NEW, _ONE = "new filter: ", ", 1 client"
RATIOS = ("requests_per_s", "p50_ms", "p99_ms", "cpu_ms")
TEXT, NARROW = "title", ("group", "1 in 100", "colour and price", "listing")


@dataclass(frozen=True)
class Target:
    """A figure and what it should be."""

    what: str
    found: float
    limit: float
    at_least: bool = False

    @property
    def verdict(self) -> str:
        met = self.found >= self.limit if self.at_least else self.found <= self.limit
        if met:
            return "met"
        if math.isnan(self.found) or not self.found:
            return "not measured"
        return f"short by {self.limit / self.found if self.at_least else self.found / self.limit:.2f} x"


def summary(servers: Mapping[str, Any], encoder: Sequence[Mapping[str, float]], rows: int) -> dict[str, Any]:
    """The medians by server, ratios of further checkouts to the first, and the first server's targets."""
    found: dict[str, Any] = {"servers": {}, "encoder": medians(encoder) if encoder else {}}
    for name, taken in servers.items():
        loads = {label: medians(each) | {"each": _each(each)} for label, each in taken["loads"].items()}
        found["servers"][name] = {**taken, "starts": medians(taken["starts"]), "loads": loads}
    for name, taken in servers.items():
        first = next(other for other in servers if _shards(other) == _shards(name))
        first = next(iter(servers)) if first == name else first
        if first != name:
            found.setdefault("ratios", {})[f"{name} / {first}"] = _ratios(servers[first], taken)
    found["targets"] = {
        name: [asdict(t) | {"verdict": t.verdict} for t in targets(found, name, rows)] for name in servers
    }
    return found


def _shards(name: str) -> str:
    return name.partition(", ")[2]


def medians(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of every number; failures are added up."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for one in each for name in one):
        values = [one[name] for one in each if name in one]
        if name == "failures":
            found[name] = {status: sum(one.get(status, 0) for one in values) for one in values for status in one}
        elif isinstance(values[0], Mapping):
            inner = dict.fromkeys(key for one in values for key in one)
            found[name] = {key: round(statistics.median(one.get(key, 0.0) for one in values), 4) for key in inner}
        else:
            found[name] = round(statistics.median([v for v in values if not math.isnan(v)] or [math.nan]), 3)
    return found


def _each(each: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    return {name: [one[name] for one in each] for name in RATIOS}


def _ratios(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Of each load the median of the ratios within an alternation."""
    found = {}
    for label, each in other["loads"].items():
        pairs = list(zip(first["loads"].get(label, ()), each, strict=False))
        found[label] = {
            name: round(statistics.median(o[name] / f[name] if f[name] else math.nan for f, o in pairs), 3)
            for name in RATIOS
            if pairs
        }
    return found


def targets(found: Mapping[str, Any], name: str, rows: int) -> list[Target]:
    """The targets of one server; what was not measured is left out."""
    server = found["servers"][name]
    loads = server["loads"]
    chosen = []

    def limit(what: str, load: str, figure: str, value: float, at_least: bool = False) -> None:
        if load in loads:
            chosen.append(Target(what, loads[load][figure], value, at_least))

    if rows > LARGE:
        limit("by id, 32 clients: CPU ms", BY_ID_32, "cpu_ms", 12)
        limit("by id, 1 client: p50 ms", BY_ID_1, "p50_ms", 10)
        limit("by id, 4 requests/s, open loop: p99 ms", OPEN, "p99_ms", 30)
        chosen.append(Target("start to first answer, s", server["starts"]["first_answer_s"], 30))
    elif name.endswith(" 4 shards"):
        limit("by id, 32 clients, 4 shards: CPU ms", BY_ID_32, "cpu_ms", 3)
    else:
        limit("by id, 32 clients: requests/s", BY_ID_32, "requests_per_s", 800, at_least=True)
        limit("by id, 32 clients: CPU ms", BY_ID_32, "cpu_ms", 1.5)
        limit("by id, 1 client: p50 ms", BY_ID_1, "p50_ms", 3)
        if PHOTO_1 in loads and BY_ID_1 in loads:
            own = found["encoder"]["p50_ms"] + loads[BY_ID_1]["p50_ms"]
            chosen.append(Target("by photo, 1 client: p50 / (encoder + by id)", loads[PHOTO_1]["p50_ms"] / own, 1.3))
    chosen += _filter_targets(loads)
    if "idle_cores" in server and rows <= LARGE and not name.endswith(" 4 shards"):
        chosen.append(Target("idle: cores", sum(server["idle_cores"].values()), 0.05))
        chosen.append(Target("memory of all processes (PSS), GB", sum(server["memory_mb"].values()) / 1e3, 1.8))
    return [Target(t.what, round(t.found, 3), t.limit, t.at_least) for t in chosen]


def _filter_targets(loads: Mapping[str, Any]) -> list[Target]:
    """New filters, one client: against the same search without one, or for words in milliseconds."""
    chosen = []
    for label, figures in loads.items():
        if not (label.startswith(_NEW) and label.endswith(_ONE)):
            continue
        kind = label[len(_NEW) : -len(_ONE)]
        if kind.startswith(TEXT):
            chosen.append(Target(f"{label}: p50 ms", figures["p50_ms"], 5))
        elif BY_ID_1 in loads:
            most = 0.5 if any(word in kind for word in NARROW) else 1.1
            chosen.append(Target(f"{label}: CPU / unfiltered", figures["cpu_ms"] / loads[BY_ID_1]["cpu_ms"], most))
    return chosen


def print_report(found: Mapping[str, Any], rows: int) -> None:
    """Print the targets, the loads, and where the CPU went."""
    for name, server in found["servers"].items():
        print(f"\n## {rows:,} rows, {name}\n")
        print_table(("target", "measured", "limit", ""), [
            (t["what"], t["found"], ("at least " if t["at_least"] else "at most ") + f"{t['limit']:g}", t["verdict"])
            for t in found["targets"][name]
        ])  # fmt: skip
        print_table(("load", "requests/s", "p50 ms", "p99 ms", "CPU ms", "client's CPU ms", "failed"), [
            (label, *(load[figure] for figure in (*RATIOS, "client_cpu_ms")), _plain(load["failures"]))
            for label, load in server["loads"].items()
        ])  # fmt: skip
        _print_filters(server["loads"])
        _print_cpu(server)
        for what in ("starts", "idle_cores", "memory_mb"):
            if what in server:
                total = "" if what == "starts" else f" (in all {sum(server[what].values()):.3f})"
                print(f"{what}{total}: {_plain(server[what])}")
    if found["encoder"]:
        print(f"\nthe encoder by itself, one photo: {_plain(found['encoder'])}")
    for pair, ratios in found.get("ratios", {}).items():
        print(f"\n## {pair}\n")
        print_table(("load", *RATIOS), [(label, *ratio.values()) for label, ratio in ratios.items() if ratio])


def _print_cpu(server: Mapping[str, Any]) -> None:
    """CPU milliseconds per request: by process, and for a search by id by thread and step."""
    shown = [label for label in TABLE if label in server["loads"]]
    by_process = {label: server["loads"][label]["cpu_ms_by_process"] for label in shown}
    roles = dict.fromkeys(role for label in reversed(shown) for role in by_process[label])
    largest = [role for role in roles if max(by_process[label].get(role, 0.0) for label in shown) >= 0.005]
    if shown:
        print_table(("CPU ms by process", *shown), [
            (role, *(by_process[label].get(role, 0.0) for label in shown)) for role in largest
        ])  # fmt: skip
    for label in (label for label in (BY_ID_1, BY_ID_32) if label in shown):
        load = server["loads"][label]
        print(f"{label}, CPU ms by thread: {_plain(load['cpu_ms_by_thread'])}")
        if load.get("ms_by_step"):
            print(f"{label}, ms by step: {_plain(load['ms_by_step'])}")
    print()


def _print_filters(loads: Mapping[str, Any]) -> None:
    """CPU of each kind of filter, and its ratio to the same search without one."""
    kinds = [label[len(_NEW) : -len(_ONE)] for label in loads if label.startswith(_NEW) and label.endswith(_ONE)]
    plain = [loads.get(label, {}).get("cpu_ms", math.nan) for label in (BY_ID_1, BY_ID_1, BY_ID_32)]
    rows = []
    for kind in kinds:
        labels = (f"{_NEW}{kind}{_ONE}", f"same filter: {kind}{_ONE}", f"{_NEW}{kind}, 32 clients")
        taken = [loads[label]["cpu_ms"] for label in labels]
        rows.append((kind, *(f"{ms:g} ({ms / base:.2f} x)" for ms, base in zip(taken, plain, strict=True))))
    print_table(("filter, CPU ms (beside unfiltered)", "new, 1 client", "same, 1 client", "new, 32 clients"), rows)


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write results as JSON, which has no NaN: null stands for what could not be measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_without_nan(results), indent=2) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _plain(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in figures.items())


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    if not rows:
        return
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(f'{cell:g}' if isinstance(cell, float) else str(cell) for cell in row)} |")
    print()
