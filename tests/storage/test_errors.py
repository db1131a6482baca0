from __future__ import annotations

import pickle

import pytest

from lookalike import errors
from lookalike.errors import LookalikeError

ALL = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, LookalikeError)]


@pytest.mark.parametrize("error", ALL)
def test_errors_survive_the_way_between_processes(error: type[LookalikeError]) -> None:
    found = pickle.loads(pickle.dumps(error("the reason")))
    assert type(found) is error
    assert str(found) == "the reason"


def test_errors_of_storage_can_be_told_apart_by_their_class() -> None:
    assert issubclass(errors.DiskFull, errors.StorageUnavailable)
    assert issubclass(errors.StoreUnavailable, errors.StorageUnavailable)
    assert not issubclass(errors.StoreUnavailable, errors.DiskFull)
    for other in (errors.NotFound, errors.Conflict, errors.TooLarge):
        assert not issubclass(other, errors.StorageUnavailable)
