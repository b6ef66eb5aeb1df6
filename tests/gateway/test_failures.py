import pytest

from streamtable.core.errors import ServiceUnavailable
from streamtable.gateway.failures import Failures


def test_an_outage_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    seconds = 0.0
    failures = Failures(lambda: seconds)
    error = ServiceUnavailable("Shard 3 is not served right now. Try again.")
    for number in range(25):
        failures.tell("PutItem", f"R{number}", error)
    assert caplog.messages == [f"PutItem R{number} failed: {error.message}" for number in range(10)]
    line = caplog.records[0].__dict__
    assert (line["request_id"], line["operation"], line["status"]) == ("R0", "PutItem", 503)
    caplog.clear()
    seconds = 1.5
    failures.tell("GetItem", "R25", error)
    assert caplog.messages == [
        "15 more requests failed meanwhile",
        f"GetItem R25 failed: {error.message}",
    ]
