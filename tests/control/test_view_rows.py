"""What a worker asks to be done to a view's rows: what makes no sense is refused, and undone."""

from pathlib import Path

import pytest

from streamtable.control.view_rows import ViewRows
from streamtable.core.errors import ValidationError
from streamtable.streams.feed import Batch, LatestRows, feed
from tests.streams.shards import CONTEXT, TABLE, MemoryLog, PutWrite, make_shard

PUT = '{"put": {"id": {"S": "a"}, "n": {"N": "01"}}}'


def any_shard(_number: int) -> None:
    """Let every row be of this shard."""


@pytest.mark.parametrize(
    ("operation", "complaint"),
    [
        ("nonsense", "is no operation"),
        ("[1]", "nothing that can be done to users"),
        ('{"add": {}}', "nothing that can be done to users"),
        ('{"aggregate": {"group": {"id": {"S": "a"}}}}', "nothing that can be done to users"),
        ('{"put": {"n": {"N": "1"}}}', "Missing the key id"),
        ('{"put": {"id": {"S": "b"}, "n": {"N": "one"}}}', "cannot be converted"),
        ('{"delete": {"id": {"N": "1"}}}', "does not match the schema"),
    ],
)
async def test_what_does_not_fit_leaves_nothing_of_its_batch(
    tmp_path: Path, operation: str, complaint: str
):
    shard = make_shard(tmp_path, MemoryLog())
    await shard.take_over()

    def write(rows: LatestRows) -> None:
        ViewRows(TABLE, None, any_shard).carry_out([PUT, operation], rows)

    with pytest.raises(ValidationError, match=complaint):
        await feed(shard, Batch(TABLE.id, 0, None, (1, 0), write), CONTEXT)
    assert shard.latest(PutWrite("a", 0).row_key) is None


async def test_a_row_is_kept_in_canonical_form_and_deleted_by_its_key(tmp_path: Path):
    shard = make_shard(tmp_path, MemoryLog())
    await shard.take_over()
    row_key = PutWrite("a", 0).row_key
    after = None
    for number, (operation, expected) in enumerate(
        [(PUT, {"id": {"S": "a"}, "n": {"N": "1"}}), ('{"delete": {"id": {"S": "a"}}}', None)]
    ):

        def write(rows: LatestRows, operation: str = operation) -> None:
            ViewRows(TABLE, None, any_shard).carry_out([operation], rows)

        through = (1, number)
        await feed(shard, Batch(TABLE.id, 0, after, through, write), CONTEXT)
        after = through
        image = shard.get(row_key)
        assert (None if image is None else image.item) == expected
