"""Commands about models."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike.cluster.cli.options import PATH, SEED
from lookalike.cluster.cli.progress import progress_bar


@click.group()
def model() -> None:
    """Make models."""


@model.command()
@click.argument("catalogue", type=PATH)
@click.argument("out", type=PATH)
@click.option("--photos", default=1000, show_default=True, type=click.IntRange(2), help="How many to fit it to.")
@SEED
def fit(catalogue: Path, out: Path, photos: int, seed: int) -> None:
    """Fit an untrained model to a sample of CATALOGUE and save it in the folder OUT."""
    from lookalike.ingest.catalogue.catalogue import Catalogue
    from lookalike.training.unsupervised.from_catalogue import fit_on_catalogue

    with progress_bar("reading", photos, "photo") as advance:
        fit_on_catalogue(Catalogue.open(catalogue), out, sample=photos, seed=seed, progress=advance)
