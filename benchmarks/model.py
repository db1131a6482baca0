"""Measure the model: what it finds, what its short code keeps, whether a batch changes bits, and how fast it is.

    python benchmarks/model.py CATALOGUE [--photos 1500] [--sample 1000] [--part quality] [--out FILE]

CATALOGUE is a folder with a `catalog.csv` that has `file`, `level1`.. `level3` and `group_id` (near-identical photos),
and `colour` if colours are to be judged. The model is fitted on photos that share no group with those it is judged on.
Rates are of this machine, ratios travel better. docs/model.md quotes these figures.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import model_law
import model_speed
import numpy as np
import squeezenet
from machine import machine
from model_quality import Judge, packed_distances, short_recall, weighted_distances
from numpy.typing import NDArray

from lookalike.ingest.photos.decode import decode
from lookalike.ingest.photos.fetch import read_photo
from lookalike.model import keras_runtime
from lookalike.model.descriptor import Pixels, unpack
from lookalike.model.encoder import Encoder
from lookalike.model.saved_model import load, save
from lookalike.model.spec import ComponentSpec
from lookalike.training.unsupervised.fit import fit

SIDE_PX = 128
SEED = 0
COLOUR_WEIGHTS = (100, 200, 300)
# One model of all these sources costs one fit; each is judged alone.
LADDER = {"conv8": 128, "conv8@2x2": 512, "conv8@4x4": 2048, "conv5@4x4": 1024, "conv11@4x4": 4096}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("catalogue", type=Path, help="a folder with catalog.csv and its photos")
    arguments.add_argument("--photos", type=int, default=1500, help="how many the model is judged on")
    arguments.add_argument("--sample", type=int, default=1000, help="how many others it is fitted on")
    arguments.add_argument("--part", choices=PARTS, action="append", help="measure only this; may be repeated")
    arguments.add_argument("--weights", type=Path, help="SqueezeNet's .npz; default: the one in ../weights, if there")
    arguments.add_argument("--out", type=Path, help="write the results as JSON")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        bench, results = prepare(options, Path(scratch))
        for part in options.part or PARTS:
            results[part] = PARTS[part](bench)
            print(f"\n{part}")
            show(results[part])
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n")


@dataclass(frozen=True)
class Bench:
    """What every part works with: the photos, and the default model fitted on those that are not judged."""

    root: Path
    sample: list[dict[str, str]]
    judged: list[dict[str, str]]
    sample_pixels: Pixels
    pixels: Pixels
    encoder: Encoder
    scratch: Path  # holds model/ and pixels.npy, for the other processes
    weights: Path | None


def prepare(options: argparse.Namespace, scratch: Path) -> tuple[Bench, dict[str, Any]]:
    sample, judged = split(options.catalogue, options.sample, options.photos)
    sample_pixels, pixels = (photos(options.catalogue, rows, SIDE_PX) for rows in (sample, judged))
    start_s = clocked(lambda: keras_runtime.start(len(os.sched_getaffinity(0))))
    logging.getLogger("tensorflow").setLevel("ERROR")  # it warns that many batch sizes are compiled: they are the point
    fit_s = clocked(lambda: save(fit(sample_pixels, name="bench", seed=SEED), scratch / "model"))
    np.save(scratch / "pixels.npy", pixels)
    encoder, encoder_s = clocked_value(lambda: Encoder(scratch / "model"))
    found = sorted(options.catalogue.resolve().parent.glob("weights/squeezenet*/*.npz"))
    weights = options.weights or (found[0] if found else None)
    results = {
        "machine": machine(),
        "catalogue": options.catalogue.name,
        "judged": len(judged),
        "fitted_on": len(sample),
        "start_s": {"keras": round(start_s, 1), "fit": round(fit_s, 1), "encoder": round(encoder_s, 1)},
        "photos_per_call": encoder.photos_per_call,
    }
    show(results)
    return Bench(options.catalogue, sample, judged, sample_pixels, pixels, encoder, scratch, weights), results


def split(catalogue: Path, sample: int, judged: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Take whole groups in a seeded order: first the judged photos, then the sample, which has none of their groups."""
    with (catalogue / "catalog.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["group_id"] for row in rows})
    order = dict(zip(names, np.random.default_rng(SEED).permutation(len(names)), strict=True))
    rows.sort(key=lambda row: (order[row["group_id"]], row["image_id"]))
    first = rows[:judged]
    seen = {row["group_id"] for row in first}
    rest = [row for row in rows[judged:] if row["group_id"] not in seen][:sample]
    if len(first) < judged or len(rest) < sample:
        raise SystemExit(
            f"{catalogue} has {len(first)} photos to judge and {len(rest)} others to fit on; give a smaller number"
        )
    return rest, first


def photos(root: Path, rows: list[dict[str, str]], side_px: int) -> Pixels:
    return np.stack([decode(read_photo(row["file"], root), side_px) for row in rows])


def quality(bench: Bench) -> list[dict[str, Any]]:
    """P@1 and P@5 of kind, colour and both, the query's own group left out."""
    judge = Judge(bench.judged)
    spec = bench.encoder.spec
    codes = bench.encoder.encode(bench.pixels)
    bits = unpack(codes.long)
    parts = [c.bits for c in spec.components]
    lines = list(ladder(bench, judge))
    if bench.weights:
        lines.insert(0, judge.line("SqueezeNet, trained", squeezenet.BITS, packed_distances(trained_bits(bench))))
    for name, weights in {
        "without colour": (100, 100, 0),
        "colour alone": (0, 0, 1),
        **{f"default, colour weight {weight}": (100, 100, weight) for weight in COLOUR_WEIGHTS},
    }.items():
        counted = sum(count for count, weight in zip(parts, weights, strict=True) if weight)
        lines.append(judge.line(name, counted, weighted_distances(bits, parts, weights)))
    lines.append(judge.line("its short code", spec.short_bits, packed_distances(unpack(codes.short))))
    return [*lines, judge.chance()]


def ladder(bench: Bench, judge: Judge) -> Iterator[dict[str, Any]]:
    """Other layers and grids, each alone."""
    components = [
        ComponentSpec(name=source.replace("@", "_"), source=source, bits=bits, weight=100)
        for source, bits in LADDER.items()
    ]
    save(fit(bench.sample_pixels, name="ladder", components=components, seed=SEED), bench.scratch / "ladder")
    codes = unpack(Encoder(bench.scratch / "ladder").encode(bench.pixels).long)
    ends = np.cumsum(list(LADDER.values()))
    for (source, count), part in zip(LADDER.items(), np.split(codes, ends[:-1], axis=1), strict=True):
        yield judge.line(source, count, packed_distances(part))


def trained_bits(bench: Bench) -> NDArray[np.bool_]:
    assert bench.weights is not None
    sample, judged = (
        squeezenet.features(bench.weights, photos(bench.root, rows, squeezenet.SIDE_PX))
        for rows in (bench.sample, bench.judged)
    )
    return judged > np.median(sample, axis=0)


def short(bench: Bench) -> list[dict[str, Any]]:
    """What phase one keeps of the true first 20."""
    spec = bench.encoder.spec
    bits = unpack(bench.encoder.encode(bench.pixels).long)
    distances = weighted_distances(bits, [c.bits for c in spec.components], spec.weights)
    chosen = load(bench.scratch / "model").short_positions
    return short_recall(Judge(bench.judged), bits, distances, chosen)


def clocked_value(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    value = work()
    return value, time.perf_counter() - begun


def clocked(work: Callable[[], object]) -> float:
    return clocked_value(work)[1]


def show(results: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Print a dictionary line by line, a list of them as a table."""
    if isinstance(results, dict):
        rows = [[key, str(value)] for key, value in results.items()]
    else:
        names = list(dict.fromkeys(name for line in results for name in line))
        rows = [names, *([str(line.get(name, "")) for name in names] for line in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)


PARTS: dict[str, Callable[[Bench], list[dict[str, Any]]]] = {
    "quality": quality,
    "short": short,
    "law": lambda bench: model_law.law(bench.encoder, bench.pixels, bench.scratch),
    "floats": lambda _: model_law.floats(),
    "speed": lambda bench: model_speed.speed(bench.encoder, bench.pixels, bench.scratch),
}

if __name__ == "__main__":
    main()
