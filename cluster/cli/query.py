"""Commands for a running server."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import click

from lookalike.client import Answer, Client, CollectionStatus, Status
from lookalike.cluster.cli.options import AS_JSON, COLLECTION, KEY, URL

HIT_HEADER = ("similarity", "distance", "image", "group")
STATUS_HEADER = ("collection", "model", "images", "shards", "kernel variant")


@click.command()
@click.argument("query")
@click.option("--count", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many hits.")
@COLLECTION
@URL
@KEY
@AS_JSON
def search(query: str, count: int, collection: str, url: str, key: str | None, as_json: bool) -> None:
    """Find the images most like QUERY: a photo's file, or the id of a stored image. Needs a running server."""
    client = _client(url, key, collection)
    photo = Path(query)
    if photo.is_file():
        answer = client.search_photo(photo.read_bytes(), count=count)
    else:
        answer = client.search(query, count=count)
    if as_json:
        click.echo(json.dumps(answer))
    else:
        _print_answer(answer)


@click.command()
@URL
@KEY
@AS_JSON
def status(url: str, key: str | None, as_json: bool) -> None:
    """Show what a running server holds. Needs a key of the role admin where there are keys."""
    answer = _client(url, key).status()
    if as_json:
        click.echo(json.dumps(answer))
    else:
        _print_status(answer)


def percent(similarity: float) -> str:
    """A similarity in percent, rounded down: only the same descriptor is 100.0%."""
    return f"{math.floor(similarity * 1000) / 10:.1f}%"


def bits(distance: float) -> str:
    """A distance as people write it: 460, 460.5, 460.25."""
    return f"{distance:.2f}".rstrip("0").rstrip(".")


def _client(url: str, key: str | None, collection: str = "default") -> Client:
    try:
        return Client(url, collection, key=key or None)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url or --key") from error


def _print_answer(answer: Answer) -> None:
    rows = [
        (percent(hit["similarity"]), bits(hit["distance"]), hit["image_id"], hit["group"]) for hit in answer["hits"]
    ]
    _print_table([HIT_HEADER, *rows])
    if answer["shards_answered"] < answer["shards_total"]:
        click.echo(f"only {answer['shards_answered']} of {answer['shards_total']} shards answered", err=True)


def _print_status(status: Status) -> None:
    _print_table([STATUS_HEADER, *map(_status_row, status["collections"])])
    for collection in status["collections"]:
        for number, shard in enumerate(collection["shards"]):
            if shard["last_error"]:
                click.echo(f"{collection['name']}, shard {number}: {shard['last_error']}", err=True)


def _status_row(collection: CollectionStatus) -> tuple[str, ...]:
    shards = collection["shards"]
    variants = sorted({shard["kernel_variant"] or "?" for shard in shards})
    return collection["name"], collection["model"], str(collection["rows"]), str(len(shards)), ", ".join(variants)


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
