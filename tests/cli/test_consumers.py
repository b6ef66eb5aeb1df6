"""What the commands on triggers, views and searches say before they ask for something."""

from typing import Any

import pytest

from streamtable.cli.consumers import check_at_work
from streamtable.cli.output import Failure

RUNNING: dict[str, Any] = {
    "key": "shop/rows",
    "paused": False,
    "state": "running",
    "workers": ["one"],
    "error": None,
}


def test_one_that_runs_is_asked() -> None:
    check_at_work(RUNNING)
    check_at_work(RUNNING | {"state": "waiting", "error": "it is declared otherwise"})


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (
            {"paused": True, "state": "paused", "workers": []},
            "shop/rows is paused: streamtable triggers resume shop/rows. Or only ask for it now",
        ),
        (
            {"state": "stopped", "workers": [], "error": "KeyError: 'n'"},
            "shop/rows has stopped: KeyError: 'n'. Start its worker again",
        ),
        ({"state": "no worker", "workers": []}, "no worker runs shop/rows"),
    ],
)
def test_one_that_nobody_runs_is_not(told: dict[str, Any], says: str) -> None:
    with pytest.raises(Failure, match=says):
        check_at_work(RUNNING | told)
