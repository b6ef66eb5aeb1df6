from streamtable.metrics.meters import Meters


def test_each_value_is_counted_in_its_bucket_and_in_all_above() -> None:
    meters = Meters()
    for seconds in (0.0005, 0.0006, 0.1, 99):
        meters.request("PutItem", 200, seconds)
    meters.request("PutItem", 400, 1)
    meters.appends(3)(5, 0.25)

    def read(name: str, **labels: str) -> float | None:
        return meters.registry.get_sample_value(f"streamtable_{name}", labels)

    answered = {"operation": "PutItem", "status": "200"}
    for bound, below in (("0.0005", 1), ("0.001", 2), ("0.05", 2), ("0.1", 3), ("+Inf", 4)):
        assert read("request_seconds_bucket", le=bound, **answered) == below
    assert read("request_seconds_count", **answered) == 4
    assert read("request_seconds_sum", **answered) == 0.0005 + 0.0006 + 0.1 + 99
    assert read("request_seconds_count", operation="PutItem", status="400") == 1
    assert read("append_seconds_sum", shard="3") == 0.25
    assert read("commit_changes_bucket", shard="3", le="4.0") == 0
    assert read("commit_changes_bucket", shard="3", le="8.0") == 1
