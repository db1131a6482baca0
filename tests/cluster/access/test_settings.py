"""What follows from the settings of access: who may do what when nothing is said, and what keeps a server down."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from lookalike.cluster.access.keys import BadKeys, add_key, keys_from_environment
from lookalike.cluster.access.roles import Role
from lookalike.cluster.access.settings import AccessSettings, UnprotectedServer
from lookalike.errors import NotFound, StorageUnavailable
from lookalike.storage import Location

KEYS = keys_from_environment(f"ops:admin:{'0123456789abcdef' * 4}")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_settings_let_everybody_in_on_loopback_without_keys(host: str) -> None:
    assert AccessSettings().anonymous_caller(host).role == Role.ADMIN
    assert AccessSettings().key_ring() is None
    assert AccessSettings(keys=KEYS).anonymous_caller(host).role == Role.NONE


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "example.com"])
def test_settings_want_keys_or_a_word_beyond_loopback(host: str) -> None:
    with pytest.raises(UnprotectedServer, match="--anonymous read, write or admin"):
        AccessSettings().check(host)
    with pytest.raises(UnprotectedServer):
        AccessSettings().anonymous_caller(host)
    assert AccessSettings(keys=KEYS).anonymous_caller(host).role == Role.NONE
    assert AccessSettings(keys=KEYS, anonymous="read").anonymous_caller(host).role == Role.READ
    assert AccessSettings(anonymous="admin").anonymous_caller(host).role == Role.ADMIN


def test_settings_with_an_empty_file_of_keys_let_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "keys").touch(mode=0o600)
    settings = AccessSettings(keys_file=str(tmp_path / "keys"))
    settings.check("0.0.0.0")
    assert settings.anonymous_caller("127.0.0.1").role == Role.NONE
    assert settings.key_ring() is not None


def test_check_says_what_would_keep_the_server_from_starting(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        AccessSettings(keys_file=str(tmp_path / "none")).check("127.0.0.1")
    add_key(Location.parse(tmp_path / "keys"), "ops", "read", None)
    with pytest.raises(BadKeys):
        AccessSettings(keys_file=str(tmp_path / "keys"), keys=KEYS).check("127.0.0.1")
    with pytest.raises(StorageUnavailable):
        AccessSettings(audit_log=str(tmp_path / "no" / "folder")).check("127.0.0.1")
    AccessSettings(audit_log=str(tmp_path / "log")).check("127.0.0.1")
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_settings_refuse_hosts_that_are_none() -> None:
    with pytest.raises(ValidationError, match="is not a host"):
        AccessSettings(allowed_hosts=("shop:8000",))
