"""The command line: commands of a few lines each. Exit status 2 for wrong use, 1 for failed work."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from pydantic import ValidationError
from tqdm import tqdm

from lookalike import __version__
from lookalike.errors import LookalikeError

# Imports that cost (Arrow, Lance, Ray, TensorFlow) stand in the commands that need them: --help answers at once.


def _local(_: click.Context, __: click.Parameter, store: Path) -> Path:
    if "://" in str(store) or ":/" in str(store):
        raise click.BadParameter("a store is a local folder; object stores are not supported yet")
    return store


STORE = click.option(
    "--store", type=click.Path(path_type=Path), callback=_local, required=True, help="The store's root folder."
)
COLLECTION = click.option("--collection", default="default", show_default=True, help="Name of the collection.")
HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
PORT = click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
URL = click.option(
    "--url", envvar="LOOKALIKE_URL", default="http://127.0.0.1:8000", show_default=True, help="Address of the server."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
FOLDER = click.Path(path_type=Path)


class Failed(click.ClickException):
    """Work that failed: a message, and exit status 1."""

    exit_code = 1


class Commands(click.Group):
    """Commands that say what went wrong in a sentence, not a stack trace."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (LookalikeError, OSError) as error:
            raise Failed(str(error)) from error
        except KeyboardInterrupt:
            raise Failed("stopped") from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Find the catalogue images that look like yours."""


@main.command()
@click.argument("photos", required=False, type=FOLDER)
@click.option("--store", type=FOLDER, default=Path("var/demo"), show_default=True, help="Where to keep it all.")
@HOST
@PORT
@click.option("--images", default=1200, show_default=True, type=click.IntRange(2), help="Of the drawn sample.")
def demo(photos: Path | None, store: Path, host: str, port: int, images: int) -> None:
    """Encode PHOTOS (a folder, CSV or Parquet; a drawn sample if not given), serve them, print the page's address."""
    from lookalike.cluster.deploy.local import check_port

    check_port(host, port)
    if photos is None:
        photos = store / f"sample-{images}"
        _run("sample", str(photos), "--images", str(images))
    place = store / _name_of(photos)
    _run("encode", str(photos), "--store", str(place))  # a process of its own: TensorFlow's memory goes with it
    _serve(store=place, host=host, port=port)


@main.command()
@click.argument("out", type=FOLDER)
@click.option("--images", default=1200, show_default=True, type=click.IntRange(2))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def sample(out: Path, images: int, seed: int) -> None:
    """Draw a sample catalogue of garments into the folder OUT."""
    from lookalike.ingest.demo.sample import draw

    with _progress("drawing", images, "image") as advance:
        draw(out, images, seed, advance)


@main.command()
@click.argument("catalogue", type=FOLDER)
@STORE
@COLLECTION
@click.option("--model", type=FOLDER, help="A model folder; the collection's own, or else one fitted to the catalogue.")
@click.option("--buckets", default=16, show_default=True, type=click.IntRange(1, 4096), help="Of a new collection.")
@click.option("--commit-every", default=1024, show_default=True, type=click.IntRange(1), help="Photos in a commit.")
@AS_JSON
def encode(
    catalogue: Path,
    store: Path,
    collection: str,
    model: Path | None,
    buckets: int,
    commit_every: int,
    as_json: bool,
) -> None:
    """Encode the photos of CATALOGUE into the store. Killed and started again, it goes on where it was."""
    from lookalike.ingest.catalogue.catalogue import Catalogue
    from lookalike.ingest.encode import encode_catalogue
    from lookalike.model.encoder import Encoder

    photos = Catalogue.open(catalogue)
    if photos.ignored_columns:
        click.echo(f"columns that mean nothing to us: {', '.join(photos.ignored_columns)}", err=True)
    chosen = _store_for(photos, store, collection, model, buckets)
    encoder = Encoder(chosen.model_folder)
    with _progress("encoding", photos.estimate(), "photo") as advance:
        report = encode_catalogue(photos, chosen, encoder, encoder.spec.input_px, advance, commit_every)
    chosen.publish()
    told = {
        "encoded": report.encoded,
        "unchanged": report.unchanged,
        "left_out": len(report.problems),
        "seconds": round(report.seconds, 3),
        "report": str(chosen.folder / "report.jsonl"),
    }
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"encoded {report.encoded} photos in {report.seconds:.0f} s, {report.unchanged} unchanged", err=True)
    for problem in report.problems[:10]:
        click.echo(
            f"  left out: {problem.file or problem.image_id or f'row {problem.row}'}: {problem.reason}", err=True
        )
    if report.problems or report.notes:
        click.echo(f"{len(report.problems)} left out, {len(report.notes)} fields unread: {told['report']}", err=True)


@main.command()
@STORE
@HOST
@PORT
@click.option("--shards", type=click.IntRange(1), help="Per collection [default: one per 5 million images].")
@click.option("--replicas", type=click.IntRange(1), help="Copies of each shard [default: 1].")
@click.option("--candidates-per-hit", default=256, show_default=True, type=click.IntRange(1), help="For phase one.")
def serve(**settings: Any) -> None:
    """Serve every collection of a store, until Ctrl-C."""
    _serve(**settings)


@main.command()
@click.argument("photo", type=FOLDER)
@click.option("--count", default=10, show_default=True, help="How many hits.")
@COLLECTION
@URL
@AS_JSON
def search(photo: Path, count: int, collection: str, url: str, as_json: bool) -> None:
    """Ask a running server for the images most like PHOTO, a file or the id of a stored image."""
    question: dict[str, Any] = {"count": count}
    if photo.is_file():
        question["image"] = base64.b64encode(photo.read_bytes()).decode()
    else:
        question["image_id"] = str(photo)
    answer = _ask(f"{url}/v1/collections/{quote(collection)}/search", question)
    if as_json:
        click.echo(json.dumps(answer))
        return
    rows = [(str(hit["distance"]), hit["image_id"], hit["group"]) for hit in answer["hits"]]
    _table([("distance", "image", "group"), *rows])
    if answer["shards_answered"] < answer["shards_total"]:
        click.echo(f"only {answer['shards_answered']} of {answer['shards_total']} shards answered", err=True)


@main.command()
@URL
@AS_JSON
def status(url: str, as_json: bool) -> None:
    """Show what a running server holds."""
    told = _ask(f"{url}/v1/status")
    if as_json:
        click.echo(json.dumps(told))
        return
    rows = [
        (
            c["name"],
            c["model"],
            str(c["rows"]),
            str(len(c["shards"])),
            ", ".join({s["kernel"] or "?" for s in c["shards"]}),
        )
        for c in told["collections"]
    ]
    _table([("collection", "model", "images", "shards", "kernel"), *rows])


@main.group()
def model() -> None:
    """Make and look at models."""


@model.command()
@click.argument("catalogue", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--photos", default=1000, show_default=True, type=click.IntRange(2), help="How many to look at.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def fit(catalogue: Path, out: Path, photos: int, seed: int) -> None:
    """Fit an untrained model to a sample of CATALOGUE and save it in the folder OUT."""
    from lookalike.ingest.catalogue.catalogue import Catalogue
    from lookalike.training.fit import fit_on_catalogue

    with _progress("looking at", photos, "photo") as advance:
        fit_on_catalogue(Catalogue.open(catalogue), out, sample=photos, seed=seed, progress=advance)


def _store_for(photos: Any, root: Path, collection: str, model_folder: Path | None, buckets: int) -> Any:
    """Open the collection for the model given, for its own, or for one fitted to the catalogue."""
    from lookalike.ingest.store.collection import Store, check_name, collections
    from lookalike.training.fit import fit_on_catalogue

    try:
        check_name(collection)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--collection") from error
    if model_folder is not None:
        return Store.create(root, collection, model_folder, buckets)
    if collection in collections(root):
        return Store.open(root, collection)
    with (
        tempfile.TemporaryDirectory() as scratch,
        _progress("fitting a model to the catalogue", min(1000, photos.estimate()), "photo") as advance,
    ):
        fitted = Path(scratch) / "model"
        fit_on_catalogue(photos, fitted, progress=advance)
        click.echo("the model is untrained: random convolutions plus colour, fitted to this catalogue", err=True)
        return Store.create(root, collection, fitted, buckets)


def _serve(**given: Any) -> None:
    from lookalike.cluster.deploy.local import serving
    from lookalike.cluster.settings import Settings

    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise click.UsageError("; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())) from error
    for signum in (signal.SIGINT, signal.SIGTERM):  # a shell script's background jobs ignore SIGINT by default
        signal.signal(signum, signal.default_int_handler)
    click.echo("starting Ray and Serve (about half a minute) ...", err=True)
    with serving(settings) as address:
        click.echo(f"{address} is ready; Ctrl-C stops it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            click.echo("stopping ...", err=True)


def _run(*arguments: str) -> None:
    """Run one of our commands in a process of its own; its failure is ours."""
    outcome = subprocess.run([sys.executable, "-m", "lookalike.cluster.cli.main", *arguments], check=False)  # noqa: S603
    if outcome.returncode:
        raise SystemExit(outcome.returncode)


def _name_of(photos: Path) -> str:
    """A folder name for the demo's store: one per catalogue, so that each is encoded once."""
    import hashlib

    place = str(photos.resolve())
    return f"{photos.stem or 'photos'}-{hashlib.blake2b(place.encode(), digest_size=4).hexdigest()}"


@contextmanager
def _progress(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    with tqdm(desc=what, total=total, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True) as bar:
        yield lambda done: bar.update(done) and None


def _ask(url: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - the user's own
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            told: dict[str, Any] = json.load(answer)
            return told
    except urllib.error.HTTPError as error:
        try:
            raise Failed(json.load(error)["error"]["message"]) from error
        except (ValueError, KeyError):
            raise Failed(f"{url}: HTTP {error.code}") from error
    except OSError as error:
        raise Failed(f"no server answers at {url} ({error}); start one with `lookalike serve`") from error


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
