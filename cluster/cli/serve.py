"""Commands that run a server until Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError

from lookalike.cluster.cli.access import access_options
from lookalike.cluster.cli.options import HOST, PATH, PORT, STORE

if TYPE_CHECKING:
    from lookalike.cluster.settings import Settings


@click.command()
@click.argument("photos", required=False, type=PATH)
@click.option("--store", type=PATH, default=Path("var/demo"), show_default=True, help="Where to keep it all.")
@HOST
@PORT
@click.option("--images", default=1200, show_default=True, type=click.IntRange(2), help="Of the drawn sample.")
@access_options
def demo(photos: Path | None, store: Path, host: str, port: int, images: int, access: dict[str, Any]) -> None:
    """Encode PHOTOS (a folder, CSV or Parquet; a drawn sample if not given), serve them, print the page's address."""
    from lookalike.cluster.deploy.demo import sample_folder, store_folder
    from lookalike.cluster.deploy.local import check_port

    _settings(store=store, host=host, port=port, access=access).access.check(host)
    check_port(host, port)
    if photos is None:
        photos = sample_folder(store, images)
        _run("sample", str(photos), "--images", str(images))
    root = store_folder(store, photos)
    _run("encode", str(photos), "--store", str(root))  # a process of its own: TensorFlow's memory goes with it
    _serve(store=root, host=host, port=port, access=access)


@click.command()
@STORE
@HOST
@PORT
@click.option("--shards", type=click.IntRange(1), help="Per collection [default: one, with a thread per core].")
@click.option("--replicas", type=click.IntRange(1), help="Copies of each shard [default: 1].")
@click.option("--photo-redirects", is_flag=True, help="Send clients to a photo's own URL where it has one.")
@click.option("--candidates-per-hit", default=256, show_default=True, type=click.IntRange(1), help="For phase one.")
@access_options
def serve(**settings: Any) -> None:
    """Serve every collection of a store, until Ctrl-C.

    Beyond loopback it needs API keys, or --anonymous with the role that everybody gets.
    """
    _serve(**settings)


def _settings(**values: Any) -> Settings:
    from lookalike.cluster.settings import Settings

    try:
        return Settings(**values)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise click.UsageError(wrong) from error


def _serve(**values: Any) -> None:
    from lookalike.cluster.deploy.local import serving, wait_while_ray_runs

    settings = _settings(**values)
    for signum in (signal.SIGINT, signal.SIGTERM):  # a shell script's background jobs ignore SIGINT by default
        signal.signal(signum, signal.default_int_handler)
    click.echo("starting Ray and Serve (about half a minute) ...", err=True)
    with serving(settings) as address:
        click.echo(f"{address} is ready; Ctrl-C stops it")
        try:
            wait_while_ray_runs()
        except KeyboardInterrupt:
            click.echo("stopping ...", err=True)


def _run(*arguments: str) -> None:
    """Run one of our commands in a process of its own; its exit status, where it is not 0, becomes ours."""
    command = [sys.executable, "-m", "lookalike.cluster.cli.main", *arguments]
    finished = subprocess.run(command, check=False)  # noqa: S603 - our own interpreter and module
    if finished.returncode:
        raise SystemExit(finished.returncode)
