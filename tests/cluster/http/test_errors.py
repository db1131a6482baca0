"""Which error becomes which status."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from starlette.applications import Starlette
from support.asgi import client_of
from support.collections import Served

import lookalike
from lookalike.cluster.http.app import create_app
from lookalike.cluster.http.errors import INTERNAL, meaning_of, root_of
from lookalike.errors import DiskFull, LookalikeError, StorageUnavailable, StoreUnavailable, UndecodableImage

# Raised where no request is answered: by commands, jobs, the client, and before the server listens.
NEVER_REACH_HTTP = {
    "BadCatalogue",
    "BadKeys",
    "BadModel",
    "BadPlan",
    "ClientError",
    "FollowerTooFarBehind",
    "PortTaken",
    "RayFailed",
    "RayStopped",
    "StoreMismatch",
    "UnprotectedServer",
    "VersionsDiffer",
}


class Deeper(UndecodableImage):
    """An error that the table does not name."""


def subclasses(cls: type[LookalikeError]) -> Iterator[type[LookalikeError]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.serve")
def test_every_error_of_ours_has_a_status_or_never_reaches_http() -> None:
    for module in pkgutil.walk_packages(lookalike.__path__, "lookalike."):
        if ".model." not in module.name and ".training" not in module.name:  # TensorFlow takes ten seconds
            importlib.import_module(module.name)
    ours = {cls for cls in subclasses(LookalikeError) if cls.__module__.startswith("lookalike.")}
    assert len(ours) > 12
    without = {cls.__name__ for cls in ours if meaning_of(cls("reason")) == INTERNAL}
    assert without <= NEVER_REACH_HTTP


def test_error_means_what_the_nearest_class_in_the_table_means() -> None:
    assert meaning_of(Deeper("x")) == meaning_of(UndecodableImage("x"))
    assert meaning_of(StoreUnavailable("x")).status == 503
    assert meaning_of(DiskFull("x")).status == 507
    assert meaning_of(ValueError("x")) == INTERNAL
    assert meaning_of(ActorDiedError()).status == 503


def test_error_that_ray_wraps_is_the_one_that_was_raised() -> None:
    cause = DiskFull("the disk is full")
    wrapped = RayTaskError("put", "a stack trace", cause, pid=1, ip="127.0.0.1")
    for error in (wrapped, wrapped.as_instanceof_cause()):
        assert root_of(error) is cause


def test_errors_are_rendered_without_a_stack_trace_or_a_location(tmp_path: Path) -> None:
    served = Served(tmp_path, ["a"])
    wrapped = RayTaskError("put", "Traceback: secret", DiskFull("cannot write /secret/a"), pid=1, ip="127.0.0.1")
    app = create_app(served.state)
    cases: list[tuple[Exception, int, str]] = [
        (wrapped, 507, "disk_full"),
        (wrapped.as_instanceof_cause(), 507, "disk_full"),
        (StoreUnavailable("s3://secret/manifest.json is damaged"), 503, "store_unavailable"),
        (RayTaskError("put", "Traceback: secret", KeyError("secret"), pid=1, ip="127.0.0.1"), 500, "internal"),
        (StorageUnavailable("cannot read s3://secret/head.json"), 503, "storage_unavailable"),
        (KeyError("secret"), 500, "internal"),
        (ActorDiedError(), 503, "unavailable"),
    ]
    for number, (error, _, _) in enumerate(cases):
        _add_route(app, f"/fails/{number}", error)
    with client_of(app) as http:
        for number, (_, status, code) in enumerate(cases):
            answer = http.get(f"/fails/{number}")
            error_body = answer.json()["error"]
            assert (answer.status_code, error_body["code"]) == (status, code)
            assert error_body["message"]
            assert "secret" not in json.dumps(error_body)


def _add_route(app: Starlette, path: str, error: Exception) -> None:
    async def fail(_: object) -> None:
        raise error

    app.add_route(path, fail)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [LookalikeError("x"), Deeper("x")])
def test_error_keeps_its_own_message(error: LookalikeError) -> None:
    meaning = meaning_of(error)
    assert (meaning.message is None) == (meaning.status < 500)
