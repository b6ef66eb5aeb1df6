// One round with ElectroDB; the endpoint and the table's name are arguments.

import assert from "node:assert/strict";
import {
  CreateTableCommand,
  DeleteTableCommand,
  DynamoDBClient,
  waitUntilTableExists,
} from "@aws-sdk/client-dynamodb";
import { Entity, Service } from "electrodb";

const [endpoint, table] = process.argv.slice(2);
const client = new DynamoDBClient({ endpoint, maxAttempts: 1 });
const key = (name) => [
  { AttributeName: `${name}pk`, KeyType: "HASH" },
  { AttributeName: `${name}sk`, KeyType: "RANGE" },
];
await client.send(
  new CreateTableCommand({
    TableName: table,
    AttributeDefinitions: ["pk", "sk", "gsi1pk", "gsi1sk"].map((AttributeName) => ({
      AttributeName, AttributeType: "S",
    })),
    KeySchema: key(""),
    GlobalSecondaryIndexes: [
      { IndexName: "gsi1", KeySchema: key("gsi1"), Projection: { ProjectionType: "ALL" } },
    ],
    BillingMode: "PAY_PER_REQUEST",
  }),
);
const waiting = { client, maxWaitTime: 30, minDelay: 1, maxDelay: 2 };
await waitUntilTableExists(waiting, { TableName: table });

const Task = new Entity(
  {
    model: { entity: "task", version: "1", service: "tracker" },
    attributes: {
      team: { type: "string", required: true },
      task: { type: "string", required: true },
      user: { type: "string", required: true },
      status: { type: ["open", "closed"], default: "open" },
      points: { type: "number", default: 0 },
      tags: { type: "set", items: "string" },
      notes: { type: "list", items: { type: "map", properties: { text: { type: "string" } } } },
      meta: { type: "map", properties: { views: { type: "number" }, color: { type: "string" } } },
      changed: { type: "number", watch: "*", set: () => Date.now() },
    },
    indexes: {
      tasks: {
        collection: "teams",
        pk: { field: "pk", composite: ["team"] },
        sk: { field: "sk", composite: ["task"] },
      },
      assigned: {
        collection: "work",
        index: "gsi1",
        pk: { field: "gsi1pk", composite: ["user"] },
        sk: { field: "gsi1sk", composite: ["status"] },
      },
    },
  },
  { table, client },
);
const User = new Entity(
  {
    model: { entity: "user", version: "1", service: "tracker" },
    attributes: {
      team: { type: "string", required: true },
      user: { type: "string", required: true },
      role: { type: "string" },
    },
    indexes: {
      members: {
        collection: "teams",
        pk: { field: "pk", composite: ["team"] },
        sk: { field: "sk", composite: ["user"] },
      },
      work: {
        collection: "work",
        index: "gsi1",
        pk: { field: "gsi1pk", composite: ["user"] },
        sk: { field: "gsi1sk", composite: [] },
      },
    },
  },
  { table, client },
);
const tracker = new Service({ Task, User });

// Each way to write an item.
const feed = { team: "green", task: "feed" };
const made = { ...feed, user: "ada", tags: ["a", "b"], notes: [], meta: { views: 1 } };
await Task.create(made).go();
await assert.rejects(Task.create(made).go(), { code: 4001, message: /conditional request failed/ });
let { data } = await Task.update(feed)
  .add({ points: 5, tags: ["c"] })
  .append({ notes: [{ text: "one" }] })
  .go({ response: "all_new" });
assert.deepEqual([data.points, data.tags, data.notes], [5, ["a", "b", "c"], [{ text: "one" }]]);
({ data } = await Task.patch(feed)
  .data((task, { set, add, subtract, ifNotExists, delete: remove }) => {
    set(task.meta.color, "red");
    add(task.meta.views, 10);
    subtract(task.points, 2);
    set(task.notes[0].text, "two");
    ifNotExists(task.status, "closed");
    remove(task.tags, ["a"]);
  })
  .where(({ points, tags }, { between, contains }) =>
    `${between(points, 1, 9)} AND ${contains(tags, "a")}`)
  .go({ response: "all_new" }));
assert.deepEqual(data.meta, { views: 11, color: "red" });
assert.deepEqual([data.points, data.tags, data.notes[0].text], [3, ["b", "c"], "two"]);
assert.equal(data.status, "open");
({ data } = await Task.upsert({ team: "green", task: "walk", user: "bob" })
  .add({ points: 3 })
  .go({ response: "all_new" }));
assert.equal(data.points, 3);
await assert.rejects(Task.patch({ team: "no", task: "no" }).set({ points: 1 }).go(), { code: 4001 });

// Batches, queries and cursors.
const many = Array.from({ length: 60 }, (_, at) => ({
  team: "red", task: `t${String(at).padStart(2, "0")}`, user: `u${at % 3}`, points: at,
}));
assert.deepEqual((await Task.put(many).go({ concurrent: 2 })).unprocessed, []);
await User.put([{ team: "red", user: "u0", role: "dev" }, { team: "red", user: "u1" }]).go();
const got = await Task.get(many).go({ preserveBatchOrder: true, consistent: true });
assert.deepEqual(got.data.map(({ points }) => points), many.map(({ points }) => points));
const queried = await Task.query
  .tasks({ team: "red" })
  .between({ task: "t10" }, { task: "t29" })
  .where(({ points, user }, { gte, eq }) => `${gte(points, 15)} AND ${eq(user, "u0")}`)
  .go({ pages: "all", order: "desc" });
assert.deepEqual(queried.data.map(({ points }) => points), [27, 24, 21, 18, 15]);
let cursor = null;
const read = [];
do {
  const page = await Task.query.tasks({ team: "red" }).go({ cursor, limit: 7 });
  read.push(...page.data);
  cursor = page.cursor;
} while (cursor);
assert.equal(read.length, 60);
const found = await Task.scan.where(({ points }, { gt }) => gt(points, 57)).go({ pages: "all" });
assert.equal(found.data.length, 2);
const teams = await tracker.collections.teams({ team: "red" }).go({ pages: "all" });
assert.deepEqual([teams.data.Task.length, teams.data.User.length], [60, 2]);
for (const end = Date.now() + 30_000; ; ) {
  const { data: work } = await tracker.collections.work({ user: "u0" }).go({ pages: "all" });
  if (work.Task.length === 20 && work.User.length === 1) break;
  assert(Date.now() < end, "waited 30 s for the index to follow");
}

// Transactions.
const written = await tracker.transaction
  .write((entities) => [
    entities.Task.create({ team: "blue", task: "swim", user: "eve" }).commit(),
    entities.User.check({ team: "red", user: "u0" })
      .where(({ role }, { eq }) => eq(role, "dev"))
      .commit(),
    entities.Task.update(feed).add({ points: 1 }).commit(),
    entities.User.remove({ team: "red", user: "u1" }).commit(),
  ])
  .go();
assert.equal(written.canceled, false);
const refused = await tracker.transaction
  .write((entities) => [
    entities.Task.create({ team: "blue", task: "run", user: "eve" }).commit(),
    entities.Task.create({ team: "blue", task: "swim", user: "eve" }).commit({ response: "all_old" }),
  ])
  .go();
assert.equal(refused.canceled, true);
assert.deepEqual(refused.data.map(({ code }) => code), ["None", "ConditionalCheckFailed"]);
assert.equal(refused.data[1].item.user, "eve");
const together = await tracker.transaction
  .get((entities) => [
    entities.Task.get(feed).commit(),
    entities.User.get({ team: "red", user: "u1" }).commit(),
  ])
  .go();
assert.deepEqual(together.data.map(({ item }) => item?.points ?? null), [4, null]);

await client.send(new DeleteTableCommand({ TableName: table }));
console.log("round complete");
