"""The backbones by the names that a spec gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lookalike.model.backbones import darknet19, googlenet
from lookalike.model.backbones.layers import Table, truncated
from lookalike.model.spec import parse_source

BACKBONES: Mapping[str, Callable[[float], Table]] = {"darknet19": darknet19.table, "googlenet": googlenet.table}
"""Name to a function of the width multiplier that writes out the network without its classifier."""


def network_table(backbone: str, width: float, sources: Sequence[str]) -> Table:
    """Write out a backbone, as deep as these sources need.

    Parameters
    ----------
    backbone : str
        A key of ``BACKBONES``.
    width : float
        Multiplies the filters of the published network.
    sources : sequence of str
        For example ``["conv8@2x2", "conv13"]``.

    Raises
    ------
    ValueError
        There is no such backbone, or it has no such layer.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"there is no backbone {backbone!r}, only {', '.join(BACKBONES)}")
    try:
        return truncated(BACKBONES[backbone](width), [parse_source(s).layer for s in sources])
    except ValueError as error:
        raise ValueError(f"{backbone}: {error}") from error
