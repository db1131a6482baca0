"""The group of all commands, and how they end: exit status 2 for wrong use, 1 for failed work.

Imports that cost (Arrow, Ray, TensorFlow) stand in the commands that need them, so ``--help`` answers at once.
"""

from __future__ import annotations

from typing import Any

import click

from lookalike import __version__
from lookalike.cluster.cli import catalogue, keys, model, query, serve, store
from lookalike.errors import LookalikeError


class FailedWork(click.ClickException):
    """Work that failed: a message, and exit status 1."""

    exit_code = 1


class Commands(click.Group):
    """Commands that say what went wrong in a sentence, not a stack trace."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (LookalikeError, OSError) as error:
            raise FailedWork(str(error)) from error
        except KeyboardInterrupt:
            raise FailedWork("stopped") from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Find the catalogue images that look like yours."""


for _command in (
    serve.demo,
    catalogue.sample,
    catalogue.encode,
    serve.serve,
    keys.keys,
    query.search,
    query.status,
    model.model,
    store.store,
):
    main.add_command(_command)


if __name__ == "__main__":
    main()
