"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lookalike.client import DEFAULT_URL
from lookalike.storage import Location

if TYPE_CHECKING:
    from lookalike.cluster.access.rate import RateLimit


def parse_location(_: click.Context, __: click.Parameter, text: str | None) -> Location | None:
    """Read a folder or s3://bucket/prefix; refuse what cannot be written."""
    try:
        location = None if text is None else Location.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if location is not None and location.scheme == "https":
        raise click.BadParameter("it must be a folder or s3://bucket/prefix")
    return location


def parse_limit(_: click.Context, __: click.Parameter, text: str | None) -> RateLimit | None:
    """Read RATE or RATE:BURST."""
    from lookalike.cluster.access.rate import RateLimit

    try:
        return None if text is None else RateLimit.parse(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not RATE or RATE:BURST, such as 50 or 50:200, above 0") from error


PATH = click.Path(path_type=Path)
STORE = click.option(
    "--store",
    callback=parse_location,
    metavar="LOCATION",
    required=True,
    help="The store: a folder or s3://bucket/prefix.",
)
MODEL = click.option(
    "--model",
    callback=parse_location,
    metavar="LOCATION",
    help="A model's folder; the collection's own, or else one fitted to the catalogue.",
)
COLLECTION = click.option("--collection", default="default", show_default=True, help="Name of the collection.")
HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
PORT = click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
URL = click.option(
    "--url", envvar="LOOKALIKE_URL", default=DEFAULT_URL, show_default=True, help="Address of the server."
)
KEY = click.option(
    "--key",
    envvar="LOOKALIKE_API_KEY",
    show_envvar=True,
    help="API key. In the environment it is not seen by others on this machine, as arguments are.",
)
SEED = click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the random numbers.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
