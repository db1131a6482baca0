"""Whether a photo's bits depend on its batch or process, and what the bare networks do there. See model.py."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.model import keras_runtime
from lookalike.model.backbones.registry import network_table
from lookalike.model.descriptor import Pixels
from lookalike.model.encoder import Encoder
from lookalike.training.unsupervised.random_network import random_parameters

SEED = 0
REPEATS = 8
# What else may compute the same bits: another process, and there other arithmetic.
PROCESSES = {
    "another process": {},
    "another process, oneDNN off": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    "another process, oneDNN's AVX2 kernels": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "another process, JAX": {"KERAS_BACKEND": "jax"},
}
NETWORKS = (
    ("darknet19", 0.5, 128, ("conv8", "conv18")),
    ("darknet19", 1.0, 224, ("conv8", "conv18")),
    ("googlenet", 1.0, 224, ("inception_5b",)),
)


def law(encoder: Encoder, pixels: Pixels, scratch: Path) -> list[dict[str, Any]]:
    """Bits of the long codes that differ from those of each photo encoded alone."""
    alone = in_batches(encoder, pixels, 1)
    order = np.random.default_rng(SEED).permutation(len(pixels))
    others = {f"batches of {size}": in_batches(encoder, pixels, size) for size in (7, 8, 32)}
    others["shuffled, batches of 32"] = in_batches(encoder, pixels[order], 32)[np.argsort(order)]
    lines = [{"codes": name, **differing(codes, alone)} for name, codes in others.items()]
    for name, settings in PROCESSES.items():
        if settings.get("KERAS_BACKEND") == "jax" and importlib.util.find_spec("jax") is None:
            continue
        command = [sys.executable, __file__, str(scratch)]
        subprocess.run(command, env=os.environ | settings, stderr=subprocess.DEVNULL, check=True)
        made = np.load(scratch / "codes.npz")
        lines.append({"codes": name, **differing(made["long"], alone), "per_call": int(made["per_call"])})
    return lines


def in_batches(encoder: Encoder, pixels: Pixels, size: int) -> NDArray[np.uint64]:
    return np.concatenate([encoder.encode(pixels[i : i + size]).long for i in range(0, len(pixels), size)])


def differing(codes: NDArray[np.uint64], others: NDArray[np.uint64]) -> dict[str, int]:
    return {"bits_differ": int(np.bitwise_count(codes ^ others).sum()), "of": codes.size * 64}


def floats() -> list[dict[str, Any]]:
    """Share of the bare network's floats that differ from those of the photo alone: why the encoder takes care."""
    backend = keras_runtime.start(len(os.sched_getaffinity(0)))
    from lookalike.model.backbones import build

    lines = []
    for backbone, width, side, layers in NETWORKS:
        table = network_table(backbone, width, layers)
        run = build.pools(table, side, layers, random_parameters(table, SEED), backend)
        noise = np.random.default_rng(SEED).integers(0, 256, (32, side, side, 3), np.uint8)
        alone = np.concatenate([np.concatenate(run(noise[i : i + 1]), axis=1) for i in range(32)])
        line: dict[str, Any] = {"network": f"{backbone}, width {width:g}, {side} px"}
        for size in (2, 8, 32):
            differ = np.concatenate(run(noise[:size]), axis=1) != alone[:size]
            line[f"batch of {size}"] = round(float(differ.mean()), 4)
        together = np.concatenate(run(noise[:8]), axis=1)
        turned = np.concatenate(run(np.roll(noise[:8], 1, axis=0)), axis=1)
        line["other position in 8"] = round(float((np.roll(turned, -1, axis=0) != together).mean()), 4)
        for size in (1, 8, 32):
            line[f"same call again, {size}"] = again(run, noise[:size])
        lines.append(line)
    return lines


def again(run: keras_runtime.Run, pixels: Pixels) -> float:
    """The largest share of floats that differ when one call is made again, its input elsewhere in memory."""
    first = np.concatenate(run(pixels), axis=1)
    made = (np.concatenate(run(pixels.copy()), axis=1) for _ in range(REPEATS))
    return round(max(float((floats != first).mean()) for floats in made), 4)


def write_codes(scratch: Path) -> None:
    """Encode in this process, for `law` to compare."""
    encoder = Encoder(scratch / "model")
    long = in_batches(encoder, np.load(scratch / "pixels.npy"), 32)
    np.savez(scratch / "codes.npz", long=long, per_call=encoder.photos_per_call)


if __name__ == "__main__":
    write_codes(Path(sys.argv[1]))
