"""A limit on open files that is too low is told before something fails half-way."""

import resource

import pytest

from streamtable.streams.open_files import TooFewOpenFiles, check_open_files


def test_what_the_shards_need_is_compared_with_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, 1024))
    check_open_files(4)
    with pytest.raises(TooFewOpenFiles, match=r"1000 shards need 16100 .* may have 1024: raise"):
        check_open_files(1000)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (resource.RLIM_INFINITY,) * 2)
    check_open_files(1000)
