"""Photos per second of the encoder against the bare network. See model.py."""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.model import keras_runtime
from lookalike.model.backbones.registry import network_table
from lookalike.model.descriptor import Features, Pixels
from lookalike.model.encoder import Encoder
from lookalike.model.features import colour
from lookalike.model.saved_model import load

ROUNDS = 9
ROUND_S = 0.7
BARE = {"folded": "folded", "keras": "as Keras builds it"}


def speed(encoder: Encoder, pixels: Pixels, scratch: Path) -> list[dict[str, Any]]:
    """Photos per second, the encoder and the bare network taking turns; the bare one is in a process of its own."""
    rates: dict[str, list[float]] = {}
    alone_ms: list[float] = []
    with bare_process(scratch) as bare:
        works: dict[str, Callable[[], float]] = {
            "encode, 32 at once": lambda: rate(encoder.encode, pixels[:32]),
            "encode, 256 at once": lambda: rate(encoder.encode, pixels[:256]),
            **{f"bare network, {name}": functools.partial(bare, key) for key, name in BARE.items()},
        }
        for turn in range(ROUNDS):
            for name in list(works)[:: 1 if turn % 2 else -1]:
                rates.setdefault(name, []).append(works[name]())
            alone_ms.append(1e3 / rate(encoder.encode, pixels[:1]))
    lines = [
        {
            "work": name,
            "photos_per_s": round(statistics.median(rates[name])),
            "best": round(max(rates[name])),
            **{f"to {bare}": ratio(rates[name], rates[f"bare network, {bare}"]) for bare in BARE.values()},
        }
        for name in works
    ]
    colour_ms = 1e3 / rate(colour.features, pixels[:256])
    one = {"one photo": round(statistics.median(alone_ms), 1), "the colour of one photo": round(colour_ms, 2)}
    return [*lines, *({"work": name, "ms": value} for name, value in one.items())]


def ratio(rates: list[float], others: list[float]) -> float:
    """The median over rounds, so that a neighbour's load strikes both."""
    return round(statistics.median(a / b for a, b in zip(rates, others, strict=True)), 2)


@contextmanager
def bare_process(scratch: Path) -> Iterator[Callable[[str], float]]:
    command = [sys.executable, __file__, str(scratch)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        requests, answers = process.stdin, process.stdout
        assert requests is not None
        assert answers is not None

        def measure(name: str) -> float:
            requests.write(name + "\n")
            requests.flush()
            return float(answers.readline())

        for name in BARE:  # waits until it has started
            measure(name)
        yield measure
        requests.close()


def serve_bare(scratch: Path) -> None:
    """Answer each name on stdin with a rate: one plain call on 32 photos, TensorFlow choosing its own threads."""
    import tensorflow as tf

    tf.constant(0)  # TensorFlow now runs, so that the encoder's settings of threads come too late
    from lookalike.model.backbones import build

    model = load(scratch / "model")
    pixels = np.load(scratch / "pixels.npy")[:32]
    spec = model.spec
    table = network_table(spec.backbone, spec.width, spec.layer_sources)
    plain = build.extractor(table, spec.input_px, spec.layer_sources)
    build.set_parameters(plain, model.parameters)
    calls: dict[str, Callable[[Pixels], list[Features]]] = {
        "folded": Encoder(scratch / "model").bare,
        "keras": keras_runtime.compiled(plain, "tensorflow"),
    }
    for line in sys.stdin:
        print(rate(calls[line.strip()], pixels), flush=True)


def rate(work: Callable[[Pixels], object], pixels: Pixels) -> float:
    work(pixels)
    calls, begun = 0, time.perf_counter()
    while (taken := time.perf_counter() - begun) < ROUND_S:
        work(pixels)
        calls += 1
    return calls * len(pixels) / taken


if __name__ == "__main__":
    serve_bare(Path(sys.argv[1]))
