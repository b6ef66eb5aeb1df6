import pytest

from streamtable.core.errors import (
    ConditionalCheckFailed,
    DuplicateItem,
    ResourceNotFound,
    TransactionCanceled,
    ValidationError,
)

ONE = {"N": "1"}
NO_PARTITION = (
    "Must have at least one non-optional hash key condition in WHERE clause when using ORDER BY "
    "clause."
)
SEVERAL_PARTITIONS = (
    "Must have hash key in ORDER BY clause when more than one hash key condition specified in "
    "WHERE clause."
)


@pytest.fixture
async def run(service):
    """Execute statements on tables `users` (id) and `posts` (id, at)."""
    await service.table()
    await service.table(
        "posts",
        AttributeDefinitions=[
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "at", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "id", "KeyType": "HASH"},
            {"AttributeName": "at", "KeyType": "RANGE"},
        ],
    )

    async def execute(statement, *parameters, **body):
        if parameters:
            body["Parameters"] = list(parameters)
        return await service("ExecuteStatement", Statement=statement, **body)

    return execute


@pytest.fixture
async def posts(run):
    for partition in "ab":
        for at in range(5):
            await run(f"INSERT INTO posts VALUE {{'id': '{partition}', 'at': {at}, 'n': {at % 2}}}")


async def refusal(run, statement, *parameters, kind=ValidationError, **body):
    with pytest.raises(kind) as caught:
        await run(statement, *parameters, **body)
    return caught.value.message


def shown(answer):
    return [f"{item['id']['S']}{item['at']['N']}" for item in answer["Items"]]


# INSERT


async def test_an_insert_stores_every_type_and_answers_no_item(run, service):
    answer = await run(
        "INSERT INTO users VALUE {'id': ?, 'n': 1.0, 'm': {'x': [true, null, ?]}, 's': <<'q'>>}",
        {"S": "a"},
        {"B": "AAE="},
        ReturnConsumedCapacity="TOTAL",
    )
    assert answer == {
        "Items": [],
        "ConsumedCapacity": {"TableName": "users", "CapacityUnits": 1.0},
    }
    found = await service("GetItem", TableName="users", Key={"id": {"S": "a"}})
    assert found["Item"] == {
        "id": {"S": "a"},
        "n": {"N": "1"},
        "m": {"M": {"x": {"L": [{"BOOL": True}, {"NULL": True}, {"B": "AAE="}]}}},
        "s": {"SS": ["q"]},
    }


async def test_an_insert_never_replaces_an_item(run):
    await run("INSERT INTO users VALUE {'id': 'a', 'n': 1}")
    message = await refusal(run, "INSERT INTO users VALUE {'id': 'a'}", kind=DuplicateItem)
    assert message == "Duplicate primary key exists in table"
    answer = await run("SELECT n FROM users WHERE id = 'a'")
    assert answer["Items"] == [{"n": {"N": "1"}}]


async def test_an_insert_needs_the_whole_key(run):
    message = await refusal(run, "INSERT INTO posts VALUE {'id': 'a'}")
    assert message == "One or more parameter values were invalid: Missing the key at in the item"


async def test_a_parameter_can_bring_the_whole_item(run):
    item = {"id": {"S": "a"}, "n": {"N": "1"}}
    await run("INSERT INTO users VALUE ?", {"M": item})
    assert (await run("SELECT * FROM users"))["Items"] == [item]
    message = await refusal(run, "INSERT INTO users VALUE ?", {"S": "a"})
    assert message == "The parameter of an INSERT's VALUE must be a map"


@pytest.mark.parametrize("members", ["<<>>", "<<1, 'a'>>", "<<1, 1.0>>", "<<[1]>>"])
async def test_a_set_has_members_of_one_type_each_once(run, members):
    await refusal(run, f"INSERT INTO users VALUE {{'id': 'a', 's': {members}}}")


async def test_parameters_are_counted(run):
    expected = "Number of parameters in request and statement don't match."
    statement = "SELECT * FROM users WHERE id = ?"
    assert await refusal(run, statement) == expected
    assert await refusal(run, statement, {"S": "a"}, {"S": "b"}) == expected


async def test_tables_that_do_not_exist(run):
    for statement in (
        "SELECT * FROM nobody",
        "INSERT INTO nobody VALUE {'id': 'a'}",
        "DELETE FROM nobody WHERE id = 'a'",
    ):
        message = await refusal(run, statement, kind=ResourceNotFound)
        assert message == "Requested resource not found"


@pytest.mark.usefixtures("posts")
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("n + at > 3", ["a3", "a4"]),
        ("at - 1 = n + ? - 1", ["a2", "a3"]),
        ("10 - at BETWEEN 8 AND 3 + 6", ["a1", "a2"]),
        ("at = 2 + 1", ["a3"]),
        ("at + 1 IN [?, 5]", ["a1", "a4"]),
        ("at + nothing > 0", []),
        ("at + id > 0", []),
        ("size(id) + at = 1", ["a0"]),
    ],
)
async def test_sums_in_conditions(run, condition, expected):
    values = [{"N": "2"}] * condition.count("?")
    answer = await run(f"SELECT * FROM posts WHERE id = 'a' AND {condition}", *values)
    assert shown(answer) == expected


@pytest.mark.usefixtures("posts")
async def test_sums_are_of_numbers(run):
    message = await refusal(run, "SELECT * FROM posts WHERE at + 'x' > 1")
    assert message == (
        "Invalid FilterExpression: Incorrect operand type for operator or function; operator or "
        "function: +, operand type: S"
    )
    total = "at" + " + 1" * 32
    message = await refusal(run, f"SELECT * FROM posts WHERE {total} > 1")
    assert message == "The expression contains too many operators; operator count: 33"
    message = await refusal(run, "SELECT * FROM posts WHERE begins_with(id, 'a') + 1 > 1")
    assert message.endswith("function: begins_with")
    message = await refusal(run, "SELECT * FROM posts WHERE at + id.x > 1")
    assert message.startswith("Key attributes must be scalars")


# UPDATE and DELETE


async def test_an_update_changes_what_it_says(run):
    await run("INSERT INTO users VALUE {'id': 'a', 'n': 1, 'l': [1], 's': <<1, 2>>, 'gone': 1}")
    answer = await run(
        "UPDATE users SET n = n + 10 SET l = list_append(l, [?]) SET s = set_delete(s, <<1>>) "
        "SET fresh = if_not_exists(fresh, 'new') REMOVE gone WHERE id = 'a' RETURNING ALL NEW *",
        {"S": "x"},
    )
    assert answer["Items"] == [
        {
            "id": {"S": "a"},
            "n": {"N": "11"},
            "l": {"L": [{"N": "1"}, {"S": "x"}]},
            "s": {"NS": ["2"]},
            "fresh": {"S": "new"},
        }
    ]


async def test_what_an_update_returns(run):
    await run("INSERT INTO users VALUE {'id': 'a', 'n': 1, 'other': 2}")
    update = "UPDATE users SET n = n + 1 WHERE id = 'a'"
    assert (await run(update))["Items"] == []
    old = await run(update + " RETURNING MODIFIED OLD *")
    assert old["Items"] == [{"n": {"N": "2"}}]
    new = await run(update + " RETURNING MODIFIED NEW *")
    assert new["Items"] == [{"n": {"N": "4"}}]
    whole = await run(update + " RETURNING ALL OLD *")
    assert whole["Items"] == [{"id": {"S": "a"}, "n": {"N": "4"}, "other": {"N": "2"}}]


async def test_an_update_of_no_item_fails(run):
    message = await refusal(
        run, "UPDATE users SET n = 1 WHERE id = 'a'", kind=ConditionalCheckFailed
    )
    assert message == "The conditional request failed"
    assert (await run("SELECT * FROM users"))["Items"] == []


async def test_a_condition_beside_the_key(run):
    await run("INSERT INTO users VALUE {'id': 'a', 'n': 1}")
    await run("UPDATE users SET n = 2 WHERE id = 'a' AND n = 1")
    statement = "UPDATE users SET n = 3 WHERE id = 'a' AND n = 1"
    with pytest.raises(ConditionalCheckFailed) as caught:
        await run(statement, ReturnValuesOnConditionCheckFailure="ALL_OLD")
    assert caught.value.members["Item"] == {"id": {"S": "a"}, "n": {"N": "2"}}
    with pytest.raises(ConditionalCheckFailed) as caught:
        await run(statement)
    assert "Item" not in caught.value.members


async def test_a_delete_returns_the_item_and_does_not_mind_if_there_is_none(run):
    await run("INSERT INTO users VALUE {'id': 'a'}")
    statement = "DELETE FROM users WHERE id = 'a' RETURNING ALL OLD *"
    assert (await run(statement))["Items"] == [{"id": {"S": "a"}}]
    assert (await run(statement))["Items"] == []
    assert (await run("DELETE FROM users WHERE id = 'a' AND n = 1"))["Items"] == []


async def test_a_delete_with_a_condition_that_does_not_hold(run):
    await run("INSERT INTO users VALUE {'id': 'a', 'n': 1}")
    await refusal(run, "DELETE FROM users WHERE id = 'a' AND n = 2", kind=ConditionalCheckFailed)
    await run("DELETE FROM users WHERE id = 'a' AND n = 1")
    assert (await run("SELECT * FROM users"))["Items"] == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE posts SET n = 1 WHERE id = 'a'",
        "UPDATE posts SET n = 1 WHERE id = 'a' AND at > 1",
        "UPDATE posts SET n = 1 WHERE id = 'a' OR at = 1",
        "UPDATE posts SET n = 1",
        "DELETE FROM posts WHERE id IN ['a'] AND at = 1",
        "DELETE FROM posts",
    ],
)
async def test_writes_need_the_whole_key(run, statement):
    assert await refusal(run, statement) == (
        "Where clause does not contain a mandatory equality on all key attributes"
    )


async def test_the_key_can_not_be_updated(run):
    message = await refusal(run, "UPDATE users SET id = 'b' WHERE id = 'a'")
    assert message.endswith("Cannot update attribute id. This attribute is part of the key")


async def test_set_functions_take_sets_only(run):
    message = await refusal(run, "UPDATE users SET n = set_add(n, 1) WHERE id = 'a'")
    assert "set_add" in message


async def test_exists_is_for_transactions(run):
    await refusal(run, "EXISTS(SELECT * FROM users WHERE id = 'a' AND n = 1)")


# SELECT


@pytest.mark.usefixtures("posts")
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("id = 'a'", "a0 a1 a2 a3 a4"),
        ("id = 'a' AND at = 3", "a3"),
        ("id = 'a' AND at >= 3", "a3 a4"),
        ("id = 'a' AND at BETWEEN 1 AND 2", "a1 a2"),
        ("id = 'a' AND n = 1", "a1 a3"),
        ("id = 'a' AND at > 0 AND at <> 2 AND at < 4", "a1 a3"),
        ("id IN ['b', 'a'] AND at > 3", "b4 a4"),
        ("id IN ['b', 'a'] AND at IN [1, 0]", "b0 b1 a0 a1"),
        ("id = 'a' AND at < 2 OR id = 'a' AND at BETWEEN 1 AND 2", "a0 a1 a2"),
        ("(id = 'a' OR id = 'b') AND at = 4", "a4 b4"),
        ("id = 'a' AND at BETWEEN 1 AND 3 AND nothing IS MISSING", "a1 a2 a3"),
        ("id = 'nobody'", ""),
        ("id = 'a' AND at > 9", ""),
    ],
)
async def test_queries(run, where, expected):
    answer = await run(f"SELECT * FROM posts WHERE {where}")
    assert shown(answer) == expected.split()
    assert "NextToken" not in answer


@pytest.mark.usefixtures("posts")
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("at = 1", "a1 b1"),
        ("id > 'a' AND at < 2", "b0 b1"),
        ("NOT id = 'a' AND at = 0", "b0"),
        ("id = 'a' AND at = 0 OR n = 1 AND at = 3", "a0 a3 b3"),
        ("begins_with(id, 'b') AND at = 2", "b2"),
    ],
)
async def test_scans(run, where, expected):
    assert sorted(shown(await run(f"SELECT * FROM posts WHERE {where}"))) == expected.split()


@pytest.mark.usefixtures("posts")
async def test_no_condition_reads_everything(run):
    assert len((await run("SELECT * FROM posts"))["Items"]) == 10


async def test_columns_answer_under_their_last_name(run):
    await run("INSERT INTO users VALUE {'id': 'a', 'm': {'x': [1, {'y': 2}]}, 'o': 3}")
    answer = await run("SELECT id, m.x[0], m.x[1].y, nothing, m.z FROM users WHERE id = 'a'")
    assert answer["Items"] == [{"id": {"S": "a"}, "x[0]": {"N": "1"}, "y": {"N": "2"}}]


async def test_columns_that_are_computed_answer_under_their_place(run, service):
    await run("INSERT INTO users VALUE {'id': 'a', 'n': 5, 'tags': <<'x','y'>>, 'm': {'z': 'abc'}}")
    columns = "size(tags), id, n + 1, size(m.z) - n, size(nothing)"
    for where in ("id = 'a'", "n = 5"):
        answer = await run(f"SELECT {columns} FROM users WHERE {where}")
        assert answer["Items"] == [
            {"_1": {"N": "2"}, "id": {"S": "a"}, "_3": {"N": "6"}, "_4": {"N": "-2"}}
        ]
    found = await service(
        "BatchExecuteStatement",
        Statements=[{"Statement": "SELECT n + ? FROM users WHERE id = 'a'", "Parameters": [ONE]}],
    )
    assert found["Responses"] == [{"TableName": "users", "Item": {"_1": {"N": "6"}}}]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("size(n) + 'a'", "operand type: S"),
        ("begins_with(id, 'a')", "not allowed to be used this way"),
        ("upper(id)", "Invalid function name; function: upper"),
        ("1", "Unexpected"),
        ("'a' + id", "Unexpected"),
    ],
)
async def test_columns_that_can_not_be_computed(run, columns, message):
    with pytest.raises(ValidationError) as caught:
        await run(f"SELECT {columns} FROM users")
    assert message in caught.value.message


async def test_in_compares_with_each_operand(run):
    for name in "abc":
        await run("INSERT INTO users VALUE {'id': ?, 'tags': ['a', 'b']}", {"S": name})
    listed = {"L": [{"S": "a"}, {"S": "b"}]}
    for brackets in ("[?, ?]", "(?, ?)"):
        answer = await run(f"SELECT id FROM users WHERE id IN {brackets}", {"S": "a"}, {"S": "b"})
        assert len(answer["Items"]) == 2
        # A list is one operand, a value of its own.
        answer = await run(f"SELECT id FROM users WHERE tags IN {brackets}", listed, {"S": "b"})
        assert len(answer["Items"]) == 3
    with pytest.raises(ValidationError):
        await run("SELECT id FROM users WHERE id IN ?", listed)


@pytest.mark.usefixtures("posts")
@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("id = 'a' ORDER BY at DESC", "a4 a3 a2 a1 a0"),
        ("id = 'a' AND at > 2 ORDER BY at ASC", "a3 a4"),
        ("id IN ['a', 'b'] AND at > 3 ORDER BY id DESC", "b4 a4"),
        ("id IN ['b', 'a'] AND at > 2 ORDER BY id, at DESC", "a4 a3 b4 b3"),
        ("id = 'a' AND at IN [1, 3] ORDER BY at DESC", "a3 a1"),
    ],
)
async def test_order(run, rest, expected):
    assert shown(await run(f"SELECT * FROM posts WHERE {rest}")) == expected.split()


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("ORDER BY at", "Must have WHERE clause in the statement when using ORDER BY clause."),
        (
            "WHERE at = 1 ORDER BY at",
            NO_PARTITION,
        ),
        (
            "WHERE id IN ['a', 'b'] ORDER BY at",
            SEVERAL_PARTITIONS,
        ),
        (
            "WHERE id = 'a' ORDER BY n",
            "Variable reference n in ORDER BY clause must be part of the primary key",
        ),
    ],
)
async def test_orders_that_no_query_has(run, rest, expected):
    assert await refusal(run, f"SELECT * FROM posts {rest}") == expected


async def test_an_empty_range_can_be_ordered(run):
    answer = await run("SELECT * FROM posts WHERE id = 'a' AND at > 2 ORDER BY at DESC")
    assert answer["Items"] == []


async def test_conditions_that_can_never_be_right(run):
    message = await refusal(run, "SELECT * FROM posts WHERE id = 'a' AND at BETWEEN 2 AND 1")
    assert "The BETWEEN operator requires upper bound" in message
    message = await refusal(run, "SELECT * FROM posts WHERE id = 'a' AND begins_with(at, 1)")
    assert "Incorrect operand type for operator or function" in message
    message = await refusal(run, "SELECT * FROM posts WHERE id = 1")
    assert message.endswith("Condition parameter type does not match schema type")
    message = await refusal(run, "SELECT * FROM posts WHERE id[0] = 'a'")
    assert message.endswith("are not allowed: IndexKey: id")


# Pages


async def pages(run, statement, *parameters, **body):
    found = []
    while True:
        answer = await run(statement, *parameters, **body)
        found.append(answer)
        if "NextToken" not in answer:
            return found
        body["NextToken"] = answer["NextToken"]


@pytest.mark.usefixtures("posts")
@pytest.mark.parametrize(
    "rest",
    ["", "WHERE id = 'a'", "WHERE id = 'a' ORDER BY at DESC", "WHERE id IN ['b', 'a']"],
)
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_have_everything_once(run, rest, limit):
    statement = f"SELECT * FROM posts {rest}"
    whole = [item for answer in await pages(run, statement) for item in answer["Items"]]
    found = await pages(run, statement, Limit=limit)
    assert [item for answer in found for item in answer["Items"]] == whole
    assert len(whole) == (5 if "= 'a'" in rest else 10)
    for answer in found[:-1]:
        assert len(answer["Items"]) == limit
        assert answer["LastEvaluatedKey"] == {
            name: answer["Items"][-1][name] for name in ("id", "at")
        }


async def test_the_limit_counts_what_is_read(run):
    for at in range(4):
        await run("INSERT INTO posts VALUE {'id': 'a', 'at': ?}", {"N": str(at)})
    found = await pages(run, "SELECT * FROM posts WHERE id = 'a' AND x = 1", Limit=3)
    assert [len(answer["Items"]) for answer in found] == [0, 0]


async def test_a_page_of_several_partitions_has_ten_items(run):
    names = [f"u{number}" for number in range(12)]
    for name in names:
        await run("INSERT INTO users VALUE {'id': ?}", {"S": name})
    listed = ", ".join(f"'{name}'" for name in names)
    found = await pages(run, f"SELECT * FROM users WHERE id IN [{listed}]")
    assert [[item["id"]["S"] for item in answer["Items"]] for answer in found] == [
        names[:10],
        names[10:],
    ]


async def test_one_item_is_one_page(run):
    await run("INSERT INTO users VALUE {'id': 'a'}")
    assert "NextToken" not in await run("SELECT * FROM users WHERE id = 'a'", Limit=1)


@pytest.mark.usefixtures("posts")
async def test_a_token_is_for_its_statement_and_parameters(run):
    statement = "SELECT * FROM posts WHERE id = ?"
    answer = await run(statement, {"S": "a"}, Limit=2)
    token = answer["NextToken"]
    expected = "NextToken does not match request"
    assert await refusal(run, statement, {"S": "b"}, NextToken=token) == expected
    assert await refusal(run, "SELECT * FROM posts", NextToken=token) == expected
    for wrong in ("x", "AAAA", "bnVsbA==", token[:-8], "é"):
        message = await refusal(run, statement, {"S": "a"}, NextToken=wrong)
        assert message == "Invalid NextToken"


# Indexes


@pytest.fixture
async def indexed(run, service):
    keys = [
        {"AttributeName": "kind", "KeyType": "HASH"},
        {"AttributeName": "at", "KeyType": "RANGE"},
    ]
    await service.table(
        "events",
        AttributeDefinitions=[
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "seq", "AttributeType": "N"},
            {"AttributeName": "kind", "AttributeType": "S"},
            {"AttributeName": "at", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "id", "KeyType": "HASH"},
            {"AttributeName": "seq", "KeyType": "RANGE"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-kind",
                "KeySchema": keys,
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        LocalSecondaryIndexes=[
            {
                "IndexName": "by-at",
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}, keys[1]],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    for seq in range(4):
        await run(
            f"INSERT INTO events VALUE {{'id': 'a', 'seq': {seq}, 'kind': 'k', 'at': {9 - seq}, "
            "'text': 't'}"
        )


@pytest.mark.usefixtures("indexed")
async def test_an_index_is_read_in_its_order(run):
    source = '"events"."by-kind" WHERE kind = \'k\''
    answer = await run(f"SELECT * FROM {source} AND at > 6", ReturnConsumedCapacity="INDEXES")
    assert [item["at"]["N"] for item in answer["Items"]] == ["7", "8", "9"]
    assert set(answer["Items"][0]) == {"id", "seq", "kind", "at"}
    assert answer["ConsumedCapacity"]["GlobalSecondaryIndexes"] == {
        "by-kind": {"CapacityUnits": 0.5}
    }
    found = await pages(run, f"SELECT at FROM {source} ORDER BY at DESC", Limit=3)
    assert [[item["at"]["N"] for item in answer["Items"]] for answer in found] == [
        ["9", "8", "7"],
        ["6"],
    ]
    assert set(found[0]["LastEvaluatedKey"]) == {"id", "seq", "kind", "at"}


@pytest.mark.usefixtures("indexed")
async def test_a_local_index_fetches_what_it_lacks_and_a_global_one_refuses(run):
    answer = await run('SELECT text, at FROM "events"."by-at" WHERE id = \'a\' AND at < 8')
    assert answer["Items"] == [
        {"text": {"S": "t"}, "at": {"N": "6"}},
        {"text": {"S": "t"}, "at": {"N": "7"}},
    ]
    message = await refusal(run, 'SELECT text FROM "events"."by-kind" WHERE kind = \'k\'')
    assert message.endswith("Global secondary index by-kind does not project [text]")


@pytest.mark.usefixtures("indexed")
async def test_what_an_index_can_not_do(run):
    message = await refusal(run, 'SELECT * FROM "events"."by-kind"', ConsistentRead=True)
    assert message == "Consistent reads are not supported on global secondary indexes"
    message = await refusal(run, 'SELECT * FROM "events"."nothing"')
    assert message == "The table does not have the specified index: nothing"


# BatchExecuteStatement


async def test_a_batch_answers_each_statement_for_itself(run, service):
    await run("INSERT INTO users VALUE {'id': 'a', 'n': 1}")
    answer = await service(
        "BatchExecuteStatement",
        Statements=[
            {"Statement": "INSERT INTO users VALUE {'id': ?}", "Parameters": [{"S": "b"}]},
            {"Statement": "INSERT INTO users VALUE {'id': 'a'}"},
            {
                "Statement": "UPDATE users SET n = 2 WHERE id = 'a' AND n = 5",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            },
            {"Statement": "DELETE FROM nobody WHERE id = 'a'"},
            {"Statement": "DELETE users"},
            {"Statement": "UPDATE users SET n = 3 WHERE id = 'a' RETURNING ALL NEW *"},
        ],
        ReturnConsumedCapacity="TOTAL",
    )
    assert answer["Responses"] == [
        {"TableName": "users"},
        {
            "Error": {
                "Code": "DuplicateItem",
                "Message": "Duplicate primary key exists in table",
            },
            "TableName": "users",
        },
        {
            "Error": {
                "Code": "ConditionalCheckFailed",
                "Message": "The conditional request failed",
                "Item": {"id": {"S": "a"}, "n": {"N": "1"}},
            },
            "TableName": "users",
        },
        {
            "Error": {"Code": "ResourceNotFound", "Message": "Requested resource not found"},
            "TableName": "nobody",
        },
        {
            "Error": {
                "Code": "ValidationError",
                "Message": "Statement wasn't well formed, can't be processed: Unexpected token",
            }
        },
        {"TableName": "users", "Item": {"id": {"S": "a"}, "n": {"N": "3"}}},
    ]
    assert answer["ConsumedCapacity"] == [{"TableName": "users", "CapacityUnits": 2.0}]


async def test_a_batch_reads_items_by_their_keys(run, service):
    await run("INSERT INTO users VALUE {'id': 'a', 'n': 1}")
    answer = await service(
        "BatchExecuteStatement",
        Statements=[
            {"Statement": "SELECT n FROM users WHERE id = 'a'", "ConsistentRead": True},
            {"Statement": "SELECT * FROM users WHERE id = 'a' AND n = 2"},
            {"Statement": "SELECT * FROM users WHERE id = 'b'"},
            {"Statement": "SELECT * FROM posts WHERE id = 'a'"},
        ],
        ReturnConsumedCapacity="TOTAL",
    )
    message = (
        "Select statements within BatchExecuteStatement must specify the primary key in the where "
        "clause."
    )
    assert answer["Responses"] == [
        {"TableName": "users", "Item": {"n": {"N": "1"}}},
        {"TableName": "users"},
        {"TableName": "users"},
        {"Error": {"Code": "ValidationError", "Message": message}, "TableName": "posts"},
    ]
    assert answer["ConsumedCapacity"] == [{"TableName": "users", "CapacityUnits": 2.0}]


@pytest.mark.usefixtures("run")
async def test_a_batch_has_reads_or_writes(service):
    with pytest.raises(ValidationError, match="does not support both read and write"):
        await service(
            "BatchExecuteStatement",
            Statements=[
                {"Statement": "SELECT * FROM users WHERE id = 'a'"},
                {"Statement": "DELETE FROM users WHERE id = 'a'"},
            ],
        )


# ExecuteTransaction


async def transact(service, *statements, **body):
    requests = [
        statement if isinstance(statement, dict) else {"Statement": statement}
        for statement in statements
    ]
    return await service("ExecuteTransaction", TransactStatements=requests, **body)


async def test_a_transaction_writes_all_or_nothing(run, service):
    await run("INSERT INTO users VALUE {'id': 'a', 'n': 1}")
    insert = {"Statement": "INSERT INTO users VALUE {'id': ?}", "Parameters": [{"S": "b"}]}
    exists = "EXISTS(SELECT * FROM users WHERE id = 'a' AND n = {})"
    with pytest.raises(TransactionCanceled) as caught:
        await transact(service, insert, exists.format(2))
    assert [reason["Code"] for reason in caught.value.reasons] == ["None", "ConditionalCheckFailed"]
    assert len((await run("SELECT * FROM users"))["Items"]) == 1
    await run("INSERT INTO posts VALUE {'id': 'a', 'at': 1}")
    answer = await transact(
        service,
        insert,
        exists.format(1),
        "UPDATE posts SET n = 1 WHERE id = 'a' AND at = 1",
        ReturnConsumedCapacity="TOTAL",
    )
    assert answer == {
        "Responses": [{}, {}, {}],
        "ConsumedCapacity": [
            {"TableName": "users", "CapacityUnits": 4.0, "WriteCapacityUnits": 4.0},
            {"TableName": "posts", "CapacityUnits": 2.0, "WriteCapacityUnits": 2.0},
        ],
    }
    assert len((await run("SELECT * FROM users"))["Items"]) == 2


async def test_a_transaction_reads_items_as_they_are_together(run, service):
    await run("INSERT INTO users VALUE {'id': 'a', 'n': 1}")
    answer = await transact(
        service,
        "SELECT n FROM users WHERE id = 'a'",
        "SELECT * FROM users WHERE id = 'b'",
        ReturnConsumedCapacity="TOTAL",
    )
    assert answer == {
        "Responses": [{"Item": {"n": {"N": "1"}}}, {}],
        "ConsumedCapacity": [
            {"TableName": "users", "CapacityUnits": 4.0, "ReadCapacityUnits": 4.0}
        ],
    }


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (
            ["SELECT * FROM users WHERE id = 'a'", "DELETE FROM users WHERE id = 'a'"],
            "ExecuteTransaction API does not support both read and write operations",
        ),
        (
            ["DELETE FROM users WHERE id = 'a'", "UPDATE users SET n = 1 WHERE id = 'a'"],
            "Transaction request cannot include multiple operations on one item",
        ),
        (
            ["SELECT * FROM posts WHERE id = 'a'"],
            "Select statements within ExecuteTransaction must specify the primary key",
        ),
        (
            ["EXISTS(SELECT * FROM posts WHERE id = 'a')"],
            "Where clause does not contain a mandatory equality on all key attributes",
        ),
        (
            ["UPDATE users SET n = 1 WHERE id = 'a' RETURNING ALL NEW *"],
            "RETURNING is not supported within ExecuteTransaction",
        ),
        (["DELETE users"], "Statement wasn't well formed, can't be processed: Unexpected token"),
    ],
)
async def test_transactions_that_are_refused_as_a_whole(service, statements, expected):
    with pytest.raises(ValidationError, match=expected):
        await transact(service, *statements)


async def test_a_client_token_makes_a_transaction_once(run, service):
    insert = "INSERT INTO users VALUE {'id': 'a'}"
    for _ in range(2):
        answer = await transact(service, insert, ClientRequestToken="t")
        assert answer == {"Responses": [{}]}
    assert len((await run("SELECT * FROM users"))["Items"]) == 1


# Limits


async def test_the_deepest_statements_that_are_allowed_are_evaluated(run):
    await run("INSERT INTO users VALUE {'id': 'a', 'n': 1, 'l': []}")
    deep = "n = 2 OR (n = 1 AND (" * 31 + "n = 1" + "))" * 31
    answer = await run(f"SELECT id FROM users WHERE id = 'a' AND ({deep})")
    assert answer["Items"] == [{"id": {"S": "a"}}]
    joined = "list_append(" * 31 + "l" + ", [1])" * 31
    total = "n" + " + 1" * 31
    answer = await run(
        f"UPDATE users SET l = {joined}, n = {total} WHERE id = 'a' RETURNING MODIFIED NEW *"
    )
    assert answer["Items"] == [{"n": {"N": "32"}, "l": {"L": [{"N": "1"}] * 31}}]
