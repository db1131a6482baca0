"""Commands about stores."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lookalike.cluster.cli.options import AS_JSON, COLLECTION, parse_location
from lookalike.cluster.cli.progress import progress_bar
from lookalike.errors import LookalikeError

if TYPE_CHECKING:
    from lookalike.ingest.store.upgrade import Report
    from lookalike.storage import Location


LEFTOVERS_S = 86_400
"""Longer than any upload takes: what is older belongs to a writer that was killed."""


def _collection_name(_: click.Context, __: click.Parameter | None, name: str | None) -> str | None:
    from lookalike.ingest.store.manifest import check_name

    if name is not None:
        try:
            check_name(name)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return name


@click.group()
def store() -> None:
    """Look after stores."""


@store.command()
@click.argument("store", metavar="STORE")
@click.option("--collection", callback=_collection_name, help="Name of the collection [default: every one].")
@AS_JSON
@click.pass_context
def upgrade(context: click.Context, store: str, collection: str | None, as_json: bool) -> None:
    """Take over what version 0.1 wrote in the folder STORE; stop its server first.

    Killed and started again, it loses nothing. What it replaces is kept beside it. Exit status 1: not everything could
    be taken over, and a report says what could not.
    """
    from lookalike.ingest.store.alias import collections
    from lookalike.ingest.store.upgrade import upgrade as take_over

    root = _local_store(store)
    names = [collection] if collection is not None else collections(root)
    if not names:
        raise LookalikeError(f"there is no collection in {root.shown}")
    reports: list[Report] = []
    for name in names:
        found = take_over(root, name, progress_bar)
        reports += found
        if not as_json:
            _print_reports(name, found)
    if as_json:
        click.echo(json.dumps({"versions": [dataclasses.asdict(report) for report in reports]}))
    if not all(report.is_whole for report in reports):
        context.exit(1)


@store.command("versions")
@click.argument("root", metavar="STORE", callback=parse_location)
@click.option("--collection", callback=_collection_name, help="Name of the collection [default: every one].")
@AS_JSON
def list_versions(root: Location, collection: str | None, as_json: bool) -> None:
    """List the model versions of each collection in STORE, which one is served, and how many images each holds."""
    from lookalike.cluster.deploy.encode import describe_versions
    from lookalike.ingest.store.alias import collections

    names = [collection] if collection is not None else collections(root)
    if not names:
        raise LookalikeError(f"there is no collection in {root.shown}")
    described = {name: describe_versions(root, name) for name in names}
    if as_json:
        shown = {name: [dataclasses.asdict(one) for one in found] for name, found in described.items()}
        click.echo(json.dumps({"collections": shown}))
        return
    for name, found in described.items():
        for one in found:
            images = one.error or f"{one.images:,} images"
            click.echo(f"{name}\t{one.version}\t{'served' if one.served else '-'}\t{images}")


@store.command("switch")
@click.argument("root", metavar="STORE", callback=parse_location)
@click.argument("version")
@COLLECTION
@click.option("--force", is_flag=True, help="Serve it even if images are missing.")
@AS_JSON
def switch_version(root: Location, version: str, collection: str, force: bool, as_json: bool) -> None:
    """Serve another model VERSION of a collection in STORE, once it holds what the one served now does.

    Photos that it lacks are encoded first, what was deleted is deleted. Start a server again that serves the store.
    """
    from lookalike.cluster.deploy.encode import switch

    _collection_name(click.get_current_context(), None, collection)
    passes = switch(root, collection, version, force, progress_bar)
    done = {
        "served": version,
        "encoded": sum(one.encoded for one in passes),
        "deleted": sum(one.deleted for one in passes),
        "left_out": len(passes[-1].problems) if passes else 0,
    }
    if as_json:
        click.echo(json.dumps(done))
    else:
        click.echo(
            f"{collection}: {version} is served now; {done['encoded']} images encoded, {done['deleted']} deleted, "
            f"{done['left_out']} left out",
            err=True,
        )


@store.command("clean")
@click.argument("root", metavar="STORE", callback=parse_location)
def clean(root: Location) -> None:
    """Remove what killed writers left in STORE for over a day: drafts of files, and uploads that were not completed."""
    from lookalike import storage

    removed = storage.remove_leftovers(root, older_than_s=LEFTOVERS_S)
    click.echo(f"{removed} drafts and unfinished uploads removed", err=True)


def _local_store(text: str) -> Location:
    from lookalike.storage import Location

    try:
        root = Location.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="STORE") from error
    if not root.is_local:
        raise click.BadParameter("version 0.1 kept its stores in local folders only", param_hint="STORE")
    return root


def _print_reports(name: str, reports: Sequence[Report]) -> None:
    if not reports:
        click.echo(f"{name}: nothing to do, there is nothing that version 0.1 wrote", err=True)
    for report in reports:
        _print_report(report)


def _print_report(report: Report) -> None:
    click.echo(
        f"{report.collection}, {report.version}: {report.rows:,} rows, {report.taken:,} taken over, "
        f"{report.left_out:,} left out; {report.uploads:,} uploaded photos copied",
        err=True,
    )
    for problem in report.problems:
        subject = {"row": "left out", "attribute": "unknown now", "photo": "no photo now"}[problem.kind]
        click.echo(f"  {subject}: {problem.image_id}: {problem.reason}", err=True)
    if not report.is_whole:
        click.echo(
            f"{report.left_out:,} rows left out, {report.attributes_unknown:,} attributes unknown, "
            f"{report.photos_missing:,} photos missing: {report.report}",
            err=True,
        )
    for folder in report.folders_missing:
        click.echo(f"the catalogue's folder {folder} is not there; name the right one in sources.json", err=True)
    click.echo(f"the old version is in {report.kept}; delete it when you no longer want it", err=True)
