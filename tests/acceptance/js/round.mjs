// One round with the AWS SDK for JavaScript; the endpoint and the table's name are arguments.

import assert from "node:assert/strict";
import {
  ConditionalCheckFailedException,
  CreateTableCommand,
  DeleteTableCommand,
  DynamoDBClient,
  ResourceNotFoundException,
  waitUntilTableExists,
  waitUntilTableNotExists,
} from "@aws-sdk/client-dynamodb";
import {
  BatchGetCommand,
  BatchWriteCommand,
  DeleteCommand,
  DynamoDBDocumentClient,
  GetCommand,
  PutCommand,
  UpdateCommand,
  paginateQuery,
  paginateScan,
} from "@aws-sdk/lib-dynamodb";

const [endpoint, TableName] = process.argv.slice(2);
const client = new DynamoDBClient({
  endpoint,
  region: "local",
  credentials: { accessKeyId: "local", secretAccessKey: "local" },
  maxAttempts: 1,
});
const documents = DynamoDBDocumentClient.from(client);
const waiting = { client, maxWaitTime: 30, minDelay: 1, maxDelay: 2 };

await client.send(
  new CreateTableCommand({
    TableName,
    AttributeDefinitions: [
      { AttributeName: "user", AttributeType: "S" },
      { AttributeName: "at", AttributeType: "N" },
    ],
    KeySchema: [
      { AttributeName: "user", KeyType: "HASH" },
      { AttributeName: "at", KeyType: "RANGE" },
    ],
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

await client.send(new DeleteTableCommand({ TableName }));
await waitUntilTableNotExists(waiting, { TableName });
console.log("round complete");
