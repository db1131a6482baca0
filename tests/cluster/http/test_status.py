"""The status: what shards say of themselves, put together."""

from __future__ import annotations

import os

from support.asgi import AsgiClient
from support.collections import Served

from lookalike.kernels import hamming


def test_status_shows_weights_as_decimals_and_the_rows_of_every_shard(http: AsgiClient) -> None:
    (collection,) = http.get("/v1/status").json()["collections"]
    assert collection["components"] == {"conv1": {"bits": 64, "weight": 0.1}, "colour": {"bits": 64, "weight": 0.2}}
    assert collection["rows"] == sum(shard["rows"] for shard in collection["shards"]) == 30
    for shard in collection["shards"]:
        assert shard["kernel_variant"] == hamming.ACTIVE
        assert shard["threads"] == 1
        assert shard["pids"] == [os.getpid()]
        assert shard["rss_bytes"][0] > shard["held_bytes"] >= shard["code_bytes"] > 0
        assert (shard["last_error"], shard["last_error_age_s"]) == ("", None)
        assert shard["damaged"] == {"rows": 0, "segments": 0}


def test_readyz_is_503_while_a_shard_does_not_answer(http: AsgiClient, served: Served) -> None:
    assert http.get("/readyz").json() == {"status": "ready"}
    served.lost.add(0)
    try:
        answer = http.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "not ready"})
        shard = http.get("/v1/status").json()["collections"][0]["shards"][0]
        assert (shard["replicas"], shard["replicas_answering"], shard["rss_bytes"]) == (1, 0, [])
        assert http.get("/healthz").json() == {"status": "alive"}
    finally:
        served.lost.clear()
