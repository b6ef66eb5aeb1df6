"""Workers that share an app, and workers that come with other code than the one before."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until
from tests.support.worker import FOLLOW, Worker, create_table, put


@pytest.fixture
def table(client: Any, table_name: str) -> str:
    create_table(client, table_name)
    return table_name


@pytest.fixture
def worker(tmp_path: Path, endpoint: str, table: str) -> Worker:
    return Worker(tmp_path, endpoint, table, FOLLOW)


@pytest.mark.faults
@pytest.mark.slow
def test_two_workers_share_the_shards_and_one_takes_over_when_the_other_is_killed(
    client: Any, worker: Worker
) -> None:
    worker.change_code("""
        @app.trigger(TABLE)
        async def follow(change: Change) -> None:
            note(os.getpid(), change.keys["id"], change.new["n"])
        """)
    first, second = worker.start(), worker.start()
    sent = 0

    def pids(since: int) -> set[str]:
        """Put items of many shards, and say who has noted any since then."""
        nonlocal sent
        sent += 1
        for item in range(8):
            put(client, worker.table, f"i{item}", n={"N": str(sent)})
        return {line.split()[0] for line in worker.noted()[since:]}

    both = {str(first.process.pid), str(second.process.pid)}
    wait_until(lambda: both <= pids(0), "both to have shards", 60)
    first.kill()
    last = sent
    wait_until(
        lambda: (
            {f"i{item} {last}" for item in range(8)}
            <= {line.partition(" ")[2] for line in worker.noted()}
        ),
        "the other to have every change",
        60,
    )
    assert second.stop() == 0, second.text()
    for item in range(8):
        numbers = [int(line.split()[2]) for line in worker.noted() if f" i{item} " in line]
        assert set(range(1, last + 1)) <= set(numbers)


@pytest.mark.faults
def test_schedules_are_called_once_across_workers_also_when_one_is_killed(worker: Worker) -> None:
    worker.change_code("""
        @app.every(0.5)
        def tick(due):
            note(os.getpid(), due.timestamp())
        """)
    first, second = worker.start(), worker.start()
    both = {str(first.process.pid), str(second.process.pid)}
    wait_until(lambda: both <= {line.split()[0] for line in worker.noted()}, "both to call", 60)
    first.kill()
    count = len(worker.noted())
    times = [line.split()[1] for line in worker.wait_noted(count + 3)]
    assert second.stop() == 0, second.text()
    # Who was killed in a call had it made again at most once.
    assert len(times) - len(set(times)) <= 1
    assert len(set(times[: count - 1])) == count - 1


def test_a_trigger_that_was_renamed_is_refused_until_the_code_says_so(
    client: Any, worker: Worker
) -> None:
    put(client, worker.table, "a")
    with worker.start():
        worker.wait_noted(1)
    put(client, worker.table, "b")
    worker.change_code(FOLLOW.replace("def follow", "def renamed"))
    running = worker.start()
    assert running.process.wait(60) == 1
    assert f"the trigger {worker.app}/renamed is new, and {worker.app}/follow" in running.text()
    assert "was='follow'" in running.text()
    worker.change_code(
        FOLLOW.replace("def follow", "def renamed").replace("(TABLE)", '(TABLE, was="follow")')
    )
    with worker.start() as running:
        running.wait_for(f"{worker.app}/renamed goes on where {worker.app}/follow stood")
        assert worker.wait_noted(2) == ["INSERT a", "INSERT b"]


def test_what_has_changed_in_the_code_is_told_and_skips_nothing(
    client: Any, worker: Worker
) -> None:
    put(client, worker.table, "a")
    with worker.start():
        worker.wait_noted(1)
    put(client, worker.table, "b")
    worker.change_code(FOLLOW.replace("(TABLE)", '(TABLE, on="INSERT", start="LATEST")'))
    with worker.start() as running:
        running.wait_for("follow: start=LATEST has no effect, it began at TRIM_HORIZON")
        assert f'{worker.app}/follow has changed: fingerprint "' in running.text()
        assert 'on ["INSERT","MODIFY","REMOVE"] -> ["INSERT"]' in running.text()
        assert worker.wait_noted(2) == ["INSERT a", "INSERT b"]


def test_a_trigger_on_another_table_is_refused(worker: Worker) -> None:
    with worker.start() as running:
        running.wait_for("is new and begins at TRIM_HORIZON")
    worker.change_code(FOLLOW.replace("(TABLE)", '(TABLE + "-2")'))
    running = worker.start()
    assert running.process.wait(60) == 1
    said = running.text()
    assert f"{worker.app}/follow takes the changes of {worker.table}, and the app has it on" in said


def test_a_worker_starts_again_when_its_code_changes(client: Any, worker: Worker) -> None:
    put(client, worker.table, "a")
    with worker.start("--reload") as running:
        worker.wait_noted(1)
        worker.change_code("this is no Python")
        running.wait_for("triggers.py changed: starting again")
        running.wait_for("can't be imported")
        worker.change_code(FOLLOW.replace("note(", 'note("new", '))
        put(client, worker.table, "b")
        assert worker.wait_noted(2) == ["INSERT a", "new INSERT b"]
        assert running.stop() == 0, running.text()


def test_a_lambda_function_named_on_the_command_line(client: Any, worker: Worker) -> None:
    (worker.folder / f"mail_{worker.table[2:]}.py").write_text(
        "from pathlib import Path\n"
        "def handler(event, context):\n"
        "    for record in event['Records']:\n"
        "        with Path('noted').open('a') as out:\n"
        "            print(record['eventName'], record['dynamodb']['Keys']['id']['S'], file=out)\n"
    )
    put(client, worker.table, "a")
    handler = f"mail_{worker.table[2:]}.handler"
    with worker.start("--handler", handler, "--table", worker.table, app=False):
        assert worker.wait_noted(1) == ["INSERT a"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "say what to run: APP, or --handler MODULE.FUNCTION --table TABLE"),
        (["--handler", "mail.handler"], "--handler and --table go together"),
        (["--handler", "mail.handler", "--table", "users"], "there is no module mail"),
    ],
)
def test_what_can_not_be_run(worker: Worker, options: list[str], why: str) -> None:
    running = worker.start(*options, app=False)
    assert running.process.wait(60) == 1
    assert why in running.text()
