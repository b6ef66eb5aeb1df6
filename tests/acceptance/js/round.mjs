// One round with the AWS SDK for JavaScript; the endpoint and the table's name are arguments.

import assert from "node:assert/strict";
import {
  ConditionalCheckFailedException,
  CreateTableCommand,
  DeleteTableCommand,
  DescribeTableCommand,
  DescribeTimeToLiveCommand,
  DynamoDBClient,
  ResourceNotFoundException,
  TransactionCanceledException,
  UpdateTableCommand,
  UpdateTimeToLiveCommand,
  waitUntilTableExists,
  waitUntilTableNotExists,
} from "@aws-sdk/client-dynamodb";
import {
  DescribeStreamCommand,
  DynamoDBStreamsClient,
  GetRecordsCommand,
  GetShardIteratorCommand,
  ListStreamsCommand,
} from "@aws-sdk/client-dynamodb-streams";
import {
  BatchExecuteStatementCommand,
  BatchGetCommand,
  BatchWriteCommand,
  DeleteCommand,
  DynamoDBDocumentClient,
  ExecuteStatementCommand,
  ExecuteTransactionCommand,
  GetCommand,
  PutCommand,
  QueryCommand,
  TransactGetCommand,
  TransactWriteCommand,
  UpdateCommand,
  paginateQuery,
  paginateScan,
} from "@aws-sdk/lib-dynamodb";

const [endpoint, TableName] = process.argv.slice(2);
const settings = {
  endpoint,
  region: "local",
  credentials: { accessKeyId: "local", secretAccessKey: "local" },
  maxAttempts: 1,
};
const client = new DynamoDBClient(settings);
const streams = new DynamoDBStreamsClient(settings);
const documents = DynamoDBDocumentClient.from(client);
const waiting = { client, maxWaitTime: 30, minDelay: 1, maxDelay: 2 };

await client.send(
  new CreateTableCommand({
    TableName,
    AttributeDefinitions: [
      { AttributeName: "user", AttributeType: "S" },
      { AttributeName: "at", AttributeType: "N" },
      { AttributeName: "size", AttributeType: "N" },
    ],
    KeySchema: [
      { AttributeName: "user", KeyType: "HASH" },
      { AttributeName: "at", KeyType: "RANGE" },
    ],
    LocalSecondaryIndexes: [
      {
        IndexName: "by-size",
        KeySchema: [
          { AttributeName: "user", KeyType: "HASH" },
          { AttributeName: "size", KeyType: "RANGE" },
        ],
        Projection: { ProjectionType: "KEYS_ONLY" },
      },
    ],
    StreamSpecification: { StreamEnabled: true, StreamViewType: "NEW_AND_OLD_IMAGES" },
    BillingMode: "PAY_PER_REQUEST",
  }),
);
await waitUntilTableExists(waiting, { TableName });

const Item = {
  user: "ada",
  at: 1,
  text: "é 😀",
  bytes: new Uint8Array([0, 127, 255]),
  tags: new Set(["a", "b"]),
  nested: { list: [1, "two", null, true, {}] },
};
const Key = { user: "ada", at: 1 };
await documents.send(new PutCommand({ TableName, Item }));
const read = await documents.send(new GetCommand({ TableName, Key, ConsistentRead: true }));
assert.deepEqual(read.Item, Item);

await assert.rejects(
  documents.send(
    new PutCommand({ TableName, Item, ConditionExpression: "attribute_not_exists(#u)",
      ExpressionAttributeNames: { "#u": "user" } }),
  ),
  (error) =>
    error instanceof ConditionalCheckFailedException &&
    error.message === "The conditional request failed",
);
await assert.rejects(
  documents.send(new GetCommand({ TableName: `${TableName}-none`, Key })),
  ResourceNotFoundException,
);

const updated = await documents.send(
  new UpdateCommand({
    TableName,
    Key,
    UpdateExpression: "SET nested.#list[1] = :two ADD #count :one",
    ExpressionAttributeNames: { "#list": "list", "#count": "count" },
    ExpressionAttributeValues: { ":two": 2, ":one": 1 },
    ReturnValues: "ALL_NEW",
  }),
);
assert.deepEqual(updated.Attributes.nested.list, [1, 2, null, true, {}]);
assert.equal(updated.Attributes.count, 1);

const rows = Array.from({ length: 25 }, (_, at) => ({ user: "bob", at, even: at % 2 === 0 }));
const batch = await documents.send(
  new BatchWriteCommand({
    RequestItems: { [TableName]: rows.map((row) => ({ PutRequest: { Item: row } })) },
  }),
);
assert.deepEqual(batch.UnprocessedItems, {});
const got = await documents.send(
  new BatchGetCommand({
    RequestItems: { [TableName]: { Keys: [Key, { user: "bob", at: 3 }, { user: "no", at: 0 }] } },
  }),
);
assert.equal(got.Responses[TableName].length, 2);

const queried = [];
for await (const page of paginateQuery({ client: documents, pageSize: 4 }, {
  TableName,
  KeyConditionExpression: "#u = :bob AND #at >= :from",
  FilterExpression: "even = :yes",
  ExpressionAttributeNames: { "#u": "user", "#at": "at" },
  ExpressionAttributeValues: { ":bob": "bob", ":from": 10, ":yes": true },
})) {
  queried.push(...page.Items);
}
assert.deepEqual(queried.map((row) => row.at), [10, 12, 14, 16, 18, 20, 22, 24]);

let scanned = 0;
for await (const page of paginateScan({ client: documents, pageSize: 7 }, { TableName })) {
  scanned += page.Items.length;
}
assert.equal(scanned, 26);

const deleted = await documents.send(
  new DeleteCommand({ TableName, Key, ReturnValues: "ALL_OLD" }),
);
assert.equal(deleted.Attributes.text, Item.text);

// Indexes: a local one, and a global one made from what is there.
const eve = [7, 3, 5].map((size, at) => ({ user: "eve", at, size, team: "red" }));
await documents.send(
  new BatchWriteCommand({
    RequestItems: { [TableName]: eve.map((row) => ({ PutRequest: { Item: row } })) },
  }),
);
const bySize = await documents.send(
  new QueryCommand({ TableName, IndexName: "by-size", KeyConditionExpression: "#u = :eve",
    ConsistentRead: true, ExpressionAttributeNames: { "#u": "user" },
    ExpressionAttributeValues: { ":eve": "eve" } }),
);
assert.deepEqual(bySize.Items, [1, 2, 0].map((at) => ({ user: "eve", at, size: eve[at].size })));
await client.send(
  new UpdateTableCommand({
    TableName,
    AttributeDefinitions: [{ AttributeName: "team", AttributeType: "S" }],
    GlobalSecondaryIndexUpdates: [
      { Create: { IndexName: "by-team", KeySchema: [{ AttributeName: "team", KeyType: "HASH" }],
        Projection: { ProjectionType: "ALL" } } },
    ],
  }),
);
const until = async (condition, what) => {
  for (const end = Date.now() + 30_000; !(await condition()); ) {
    assert(Date.now() < end, `waited 30 s for ${what}`);
  }
};
await until(async () => {
  const { Table } = await client.send(new DescribeTableCommand({ TableName }));
  return Table.GlobalSecondaryIndexes[0].IndexStatus === "ACTIVE";
}, "the index to be built");
await until(async () => {
  const byTeam = await documents.send(
    new QueryCommand({ TableName, IndexName: "by-team", KeyConditionExpression: "team = :red",
      ExpressionAttributeValues: { ":red": "red" } }),
  );
  return byTeam.Count === 3;
}, "the index to have what was there");

// Transactions.
await documents.send(
  new TransactWriteCommand({
    TransactItems: [
      { Put: { TableName, Item: { user: "tom", at: 1, left: 10 } } },
      { Update: { TableName, Key: { user: "eve", at: 0 }, UpdateExpression: "ADD #size :one",
        ExpressionAttributeNames: { "#size": "size" }, ExpressionAttributeValues: { ":one": 1 } } },
      { Delete: { TableName, Key: { user: "eve", at: 1 } } },
      { ConditionCheck: { TableName, Key: { user: "eve", at: 2 },
        ConditionExpression: "attribute_exists(team)" } },
    ],
  }),
);
const together = await documents.send(
  new TransactGetCommand({
    TransactItems: [["tom", 1], ["eve", 0], ["eve", 1]].map(([user, at]) => ({
      Get: { TableName, Key: { user, at } },
    })),
  }),
);
assert.deepEqual(together.Responses.map(({ Item }) => Item?.left ?? Item?.size), [10, 8, undefined]);
await assert.rejects(
  documents.send(
    new TransactWriteCommand({
      TransactItems: [
        { Put: { TableName, Item: { user: "tom", at: 2 } } },
        { Update: { TableName, Key: { user: "tom", at: 1 }, UpdateExpression: "SET #l = :zero",
          ConditionExpression: "#l < :zero", ExpressionAttributeNames: { "#l": "left" },
          ExpressionAttributeValues: { ":zero": 0 },
          ReturnValuesOnConditionCheckFailure: "ALL_OLD" } },
      ],
    }),
  ),
  (error) => {
    assert(error instanceof TransactionCanceledException);
    assert.deepEqual(error.CancellationReasons.map(({ Code }) => Code),
      ["None", "ConditionalCheckFailed"]);
    assert.deepEqual(error.CancellationReasons[1].Item.left, { N: "10" });
    return true;
  },
);

// PartiQL.
await documents.send(
  new ExecuteStatementCommand({
    Statement: `INSERT INTO "${TableName}" VALUE {'user': ?, 'at': ?, 'tags': ?}`,
    Parameters: ["zoe", 1, ["a"]],
  }),
);
await documents.send(
  new ExecuteTransactionCommand({
    TransactStatements: [
      { Statement: `UPDATE "${TableName}" SET tags = list_append(tags, ?) WHERE "user"=? AND "at"=?`,
        Parameters: [["b"], "zoe", 1] },
      { Statement: `DELETE FROM "${TableName}" WHERE "user"=? AND "at"=?`,
        Parameters: ["tom", 1] },
    ],
  }),
);
const statements = await documents.send(
  new BatchExecuteStatementCommand({
    Statements: [["zoe", 1], ["tom", 1]].map((Parameters) => ({
      Statement: `SELECT * FROM "${TableName}" WHERE "user"=? AND "at"=?`, Parameters,
    })),
  }),
);
assert.deepEqual(statements.Responses.map(({ Item }) => Item?.tags), [["a", "b"], undefined]);

// Time to live is switched on; what it does is tested elsewhere.
await client.send(
  new UpdateTimeToLiveCommand({
    TableName, TimeToLiveSpecification: { AttributeName: "expires", Enabled: true },
  }),
);
const ttl = await client.send(new DescribeTimeToLiveCommand({ TableName }));
assert.equal(ttl.TimeToLiveDescription.AttributeName, "expires");

// The stream has each change of an item once, in order.
const listed = await streams.send(new ListStreamsCommand({ TableName }));
const { StreamArn } = listed.Streams[0];
const { StreamDescription } = await streams.send(new DescribeStreamCommand({ StreamArn }));
const records = [];
for (const { ShardId } of StreamDescription.Shards) {
  let { ShardIterator } = await streams.send(
    new GetShardIteratorCommand({ StreamArn, ShardId, ShardIteratorType: "TRIM_HORIZON" }),
  );
  for (let page = 0; page < 10; page += 1) {
    const read = await streams.send(new GetRecordsCommand({ ShardIterator, Limit: 15 }));
    records.push(...read.Records);
    ShardIterator = read.NextShardIterator;
  }
}
const told = (user, at) =>
  records.filter(({ dynamodb: { Keys } }) => Keys.user.S === user && Keys.at.N === `${at}`)
    .map(({ eventName }) => eventName);
assert.deepEqual(told("ada", 1), ["INSERT", "MODIFY", "REMOVE"]);
assert.deepEqual(told("eve", 1), ["INSERT", "REMOVE"]);
assert.deepEqual(told("tom", 1), ["INSERT", "REMOVE"]);
assert.deepEqual(told("tom", 2), []);
assert.deepEqual(told("zoe", 1), ["INSERT", "MODIFY"]);

await client.send(new DeleteTableCommand({ TableName }));
await waitUntilTableNotExists(waiting, { TableName });
console.log("round complete");
