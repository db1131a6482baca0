"""Progress bars, on the standard error: scripts read the standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress_bar(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a bar until the block ends; the function given adds what was done since the last call."""
    with tqdm(desc=label, total=total, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True) as bar:

        def advance(done: int) -> None:
            bar.update(done)

        yield advance
