"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike.client import DEFAULT_URL


def _store_location(_: click.Context, __: click.Parameter, text: str) -> Path:
    if "://" in text:
        raise click.BadParameter("a store is a local folder; object stores are not supported yet")
    return Path(text)


PATH = click.Path(path_type=Path)
STORE = click.option(
    "--store", callback=_store_location, metavar="LOCATION", required=True, help="The store's root folder."
)
COLLECTION = click.option("--collection", default="default", show_default=True, help="Name of the collection.")
HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
PORT = click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
URL = click.option(
    "--url", envvar="LOOKALIKE_URL", default=DEFAULT_URL, show_default=True, help="Address of the server."
)
SEED = click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the random numbers.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
