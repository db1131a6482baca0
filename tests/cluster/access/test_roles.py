"""Which role a request needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.cluster.access.roles import Role, image_of, required_role

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "")
KNOWN = [
    ("GET", "/openapi.json", Role.READ),
    ("GET", "/v1/collections", Role.READ),
    ("GET", "/v1/collections/a/images/b", Role.READ),
    ("HEAD", "/v1/collections/a/images/b/photo", Role.READ),
    ("POST", "/v1/collections/a/search", Role.READ),
    ("POST", "/v1/collections/a/search/image", Role.READ),
    ("POST", "/v1/collections/a/encode", Role.READ),
    ("PUT", "/v1/collections/a/images/b", Role.WRITE),
    ("DELETE", "/v1/collections/a/images/b/c\nd", Role.WRITE),
    ("GET", "/v1/status", Role.ADMIN),
    ("GET", "/metrics", Role.ADMIN),
    ("PUT", "/v1/collections/a", Role.ADMIN),
    ("DELETE", "/v1/collections/a/images/", Role.ADMIN),
    ("POST", "/v1/collections/a/images/search", Role.ADMIN),
    ("POST", "/v1/collections/a/search\n", Role.ADMIN),
]


@pytest.mark.parametrize(("method", "path", "role"), KNOWN)
def test_required_role_of_each_route(method: str, path: str, role: Role) -> None:
    assert required_role(method, path) == role


@given(
    st.sampled_from(METHODS),
    st.one_of(
        st.text(), st.sampled_from([path for _, path, _ in KNOWN]).flatmap(lambda p: st.text().map(lambda t: p + t))
    ),
)
def test_required_role_is_the_highest_for_all_that_is_not_listed(method: str, path: str) -> None:
    role = required_role(method, path)
    assert role != Role.NONE
    if method not in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        assert role == Role.ADMIN
    if not path.startswith("/v1/collections") and path != "/openapi.json":
        assert role == Role.ADMIN
    if role == Role.WRITE:
        assert image_of(path)
    if method in ("PUT", "DELETE"):
        assert role >= Role.WRITE


@pytest.mark.parametrize("path", ["/v1/status\n", "/v1/status/", "//v1/status", "/metrics\n", "/V1/STATUS"])
def test_required_role_of_what_a_router_may_take_for_the_status_is_the_highest(path: str) -> None:
    assert required_role("GET", path) == Role.ADMIN


@given(st.text(min_size=1).filter(lambda name: "/" not in name), st.text(min_size=1))
def test_image_of_finds_collection_and_id(collection: str, image_id: str) -> None:
    assert image_of(f"/v1/collections/{collection}/images/{image_id}") == (collection, image_id)
