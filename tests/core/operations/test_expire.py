import asyncio

from streamtable.core.documents import KeyElement, TableDocument, TimeToLive
from streamtable.core.operations.expire import Expire
from streamtable.core.tables import Table
from tests.streams.shards import CONTEXT, TABLE, MemoryLog, PutWrite, make_shard

SECOND = 1_700_000_000
EXPIRING = Table(
    TableDocument(
        name=TABLE.name,
        id=TABLE.id,
        region="test",
        account="000000000000",
        created=0,
        attributes={"id": "S"},
        keys=(KeyElement(name="id", kind="HASH"),),
        time_to_live=TimeToLive(attribute="n", enabled=True, changed=1.0),
    )
)


def expire(name="a", second=SECOND):
    item = {"id": {"S": name}, "n": {"N": str(second)}}
    number, row_key = EXPIRING.keys.locate(EXPIRING.prefix, item)
    write = Expire(EXPIRING, item, row_key, second)
    assert write.hash == number
    return write


def test_an_item_goes_only_if_it_still_expires_then():
    old = {"id": {"S": "a"}, "n": {"N": str(SECOND)}}
    assert expire().evaluate(old) == (None, 0)
    for other in ({"N": str(SECOND + 1)}, {"S": str(SECOND)}):
        renewed = {**old, "n": other}
        assert expire().evaluate(renewed)[0] is renewed
    without = {"id": {"S": "a"}}
    assert expire().evaluate(without)[0] is without
    assert expire().evaluate(None) == (None, 0)


async def test_the_owner_writes_it_for_the_service(tmp_path):
    log = MemoryLog()
    shard = make_shard(tmp_path, log)
    await shard.owner.take_over()
    await shard.write(PutWrite("a", SECOND), CONTEXT)
    outcome = await shard.write(expire(), CONTEXT)
    assert outcome.new is None
    [change] = log.records[outcome.offset].changes()
    assert (change.event_name, change.service) == ("REMOVE", "dynamodb.amazonaws.com")

    # Renewed while it is in flight, and gone already: nothing is written.
    log.gate.clear()
    renewing = [shard.write(PutWrite("b", SECOND), CONTEXT)]
    renewing += [shard.write(PutWrite("b", SECOND + 9), CONTEXT), shard.write(expire("b"), CONTEXT)]
    running = [asyncio.ensure_future(each) for each in renewing]
    await asyncio.sleep(0)
    log.gate.set()
    *_, outcome = await asyncio.gather(*running)
    assert outcome.offset == -1
    assert outcome.new is not None
    assert (await shard.write(expire(), CONTEXT)).offset == -1
    await shard.close()
