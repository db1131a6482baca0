"""Commands about a catalogue: draw one, encode one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lookalike.cluster.cli.options import AS_JSON, COLLECTION, MODEL, PATH, SEED, STORE
from lookalike.cluster.cli.progress import progress_bar

if TYPE_CHECKING:
    from lookalike.ingest.encode import Report
    from lookalike.storage import Location

SHOWN_PROBLEMS = 10


@click.command()
@click.argument("out", type=PATH)
@click.option("--images", default=1200, show_default=True, type=click.IntRange(2), help="How many to draw.")
@SEED
def sample(out: Path, images: int, seed: int) -> None:
    """Draw a sample catalogue of garments into the folder OUT."""
    from lookalike.ingest.demo.sample import draw

    with progress_bar("drawing", images, "image") as advance:
        draw(out, images, seed, advance)


@click.command()
@click.argument("catalogue")
@STORE
@COLLECTION
@MODEL
@click.option("--buckets", default=16, show_default=True, type=click.IntRange(1, 4096), help="Of a new collection.")
@click.option("--commit-every", default=1024, show_default=True, type=click.IntRange(1), help="Photos in a commit.")
@click.option("--force", is_flag=True, help="Serve another model's codes even if images are missing.")
@AS_JSON
def encode(
    catalogue: str,
    store: Location,
    collection: str,
    model: Location | None,
    buckets: int,
    commit_every: int,
    force: bool,
    as_json: bool,
) -> None:
    """Encode the photos of CATALOGUE into the store. Killed and started again, it goes on where it was."""
    from lookalike.cluster.deploy import encode as job
    from lookalike.ingest.catalogue.catalogue import Catalogue
    from lookalike.ingest.store.manifest import check_name

    try:
        check_name(collection)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--collection") from error
    photos = Catalogue.open(catalogue)
    if photos.ignored_columns:
        click.echo(f"columns that mean nothing to us: {', '.join(photos.ignored_columns)}", err=True)
    target, fitted = job.collection_for(photos, store, collection, model, buckets, progress_bar)
    if fitted:
        click.echo("the model is untrained: random convolutions plus colour, fitted to this catalogue", err=True)
    report = job.encode(photos, target, commit_every, force, progress_bar)
    _print_report(report, target.report_location, as_json)


def _print_report(report: Report, path: Location, as_json: bool) -> None:
    if as_json:
        summary = {
            "encoded": report.encoded,
            "unchanged": report.unchanged,
            "kept": report.kept,
            "left_out": report.left_out,
            "seconds": round(report.seconds, 3),
            "report": str(path),
        }
        click.echo(json.dumps(summary))
        return
    kept = f", {report.kept} kept as clients changed them later" if report.kept else ""
    click.echo(
        f"encoded {report.encoded} photos in {report.seconds:.0f} s, {report.unchanged} unchanged{kept}", err=True
    )
    for problem in report.problems[:SHOWN_PROBLEMS]:
        subject = problem.file or problem.image_id or f"row {problem.row}"
        click.echo(f"  left out: {subject}: {problem.reason}", err=True)
    if report.left_out or report.unread:
        click.echo(f"{report.left_out} left out, {report.unread} fields unread: {path}", err=True)
