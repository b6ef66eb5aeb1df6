from streamtable.control.bodies import Report
from streamtable.control.workers import Workers


class Clock:
    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s


def report(worker, app="shop", **states):
    consumers = {name: {"generation": 1, "state": state} for name, state in states.items()}
    return Report.model_validate({"worker": worker, "app": app, "consumers": consumers})


def test_who_runs_a_consumer():
    workers = Workers(Clock())
    workers.note(report("w1", mail="running", rows="building"))
    workers.note(report("w2", mail="paused", rows="stopped"))
    workers.note(report("w3", app="other", mail="running"))
    assert list(workers.reports("shop", "mail")) == ["w1", "w2"]
    assert workers.running("shop/mail") == ["w1"]
    assert workers.running("shop/rows") == ["w1"]
    assert workers.running("shop/none") == []


def test_a_worker_that_is_silent_is_gone():
    clock = Clock()
    workers = Workers(clock)
    workers.note(report("w1", mail="running"))
    clock.s = 4
    workers.note(report("w2", mail="running"))
    assert workers.running("shop/mail") == ["w1", "w2"]
    clock.s = 6
    assert workers.running("shop/mail") == ["w2"]


def test_the_last_report_counts():
    workers = Workers(Clock())
    workers.note(report("w1", mail="running"))
    workers.note(report("w1"))
    assert workers.running("shop/mail") == []
