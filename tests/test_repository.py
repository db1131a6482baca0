"""The repository itself: the roof, the lock, and the cluster's configuration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ROOMS = ("kernels", "model", "ingest", "actors", "training", "cluster")


def test_the_roof_links_every_room() -> None:
    for room in ROOMS:
        link = ROOT / "lookalike" / room
        assert link.is_symlink()
        assert link.readlink() == Path("..") / room


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-bench.lock"])
def test_the_locks_name_no_index_or_host(lock: str) -> None:
    for line in (ROOT / lock).read_text().splitlines():
        assert re.fullmatch(r"[\w.-]+==[\w.+!]+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line), line


def test_the_cluster_configuration_is_one_that_ray_takes() -> None:
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    config = yaml.safe_load((ROOT / "ray_config.yaml").read_text())
    validate_config(fillout_defaults(config))
    assert config["provider"]["use_internal_ips"]
