// One round with Dynamoose, which makes and changes its table; the endpoint and the table's name
// are arguments.

import assert from "node:assert/strict";
import dynamoose from "dynamoose";

const [endpoint, name] = process.argv.slice(2);
const client = new dynamoose.aws.ddb.DynamoDB({ endpoint, maxAttempts: 1 });
dynamoose.aws.ddb.set(client);
const { Condition, Schema, Table, model, transaction, type } = dynamoose;

// The table is made with an index of each kind, time to live, a stream and tags.
const User = model(
  "User",
  new Schema(
    {
      id: { type: String, hashKey: true },
      at: { type: Number, rangeKey: true },
      name: { type: String, index: { name: "byName", type: "global", rangeKey: "at" } },
      age: { type: Number, index: { name: "byAge", type: "local", project: ["name"] } },
      born: Date,
      tags: { type: Set, schema: [String] },
      friend: type.THIS,
      list: { type: Array, schema: [String] },
      photo: Buffer,
    },
    { timestamps: true, saveUnknown: ["free.**"] },
  ),
);
const waiting = { enabled: true, check: { timeout: 30_000, frequency: 50 } };
const settings = { throughput: "ON_DEMAND", waitForActive: waiting, tags: { team: "red" } };
const table = new Table(name, [User], {
  ...settings,
  initialize: false,
  expires: { ttl: 3_600_000, attribute: "expires" },
  streamOptions: { enabled: true, type: "NEW_IMAGE" },
});
await table.initialize();
const { TimeToLiveDescription } = await client.describeTimeToLive({ TableName: name });
assert.deepEqual(TimeToLiveDescription, { TimeToLiveStatus: "ENABLED", AttributeName: "expires" });

// Items.
const ada = { id: "ada", at: 1 };
await User.create({
  ...ada, name: "Ada", age: 3, born: new Date(5000), tags: new Set(["x", "y"]), list: ["a"],
  photo: Buffer.from("é"), free: { deep: { flag: true } },
});
await assert.rejects(User.create({ ...ada, name: "Eve" }), {
  name: "ConditionalCheckFailedException",
});
const read = await User.get(ada, { consistent: true });
assert.deepEqual([read.born, read.free], [new Date(5000), { deep: { flag: true } }]);
assert.deepEqual([...read.tags].sort(), ["x", "y"]);
const updated = await User.update(
  ada,
  { $SET: { name: "Bob" }, $ADD: { age: 1, list: ["b"] }, $REMOVE: ["born"], $DELETE: { tags: ["x"] } },
  { condition: new Condition("age").between(1, 3).and().where("name").beginsWith("A") },
);
assert.deepEqual([updated.name, updated.age, updated.list], ["Bob", 4, ["a", "b"]]);
await assert.rejects(User.update(ada, { name: "x" }, { condition: new Condition("age").eq(9) }), {
  name: "ConditionalCheckFailedException",
});

// Batches, queries, scans.
const many = Array.from({ length: 20 }, (_, at) => ({
  id: "many", at, name: at % 2 ? "odd" : "even", age: at, friend: ada,
}));
assert.deepEqual((await User.batchPut(many)).unprocessedItems, []);
const some = await User.batchGet([{ id: "many", at: 1 }, { id: "many", at: 2 }, { id: "no", at: 1 }]);
assert.equal(some.length, 2);
const queried = await User.query("id").eq("many").where("at").between(3, 9).filter("name").eq("odd")
  .sort("descending").exec();
assert.deepEqual(queried.map(({ at }) => at), [9, 7, 5, 3]);
const old = await User.query("id").eq("many").where("age").gt(15).using("byAge").exec();
assert.deepEqual(old.map(({ age }) => age), [16, 17, 18, 19]);
for (const end = Date.now() + 30_000; ; ) {
  if ((await User.query("name").eq("odd").count().exec()).count === 10) break;
  assert(Date.now() < end, "waited 30 s for the index to follow");
}
const first = await User.query("name").eq("odd").limit(3).exec();
const rest = await User.query("name").eq("odd").startAt(first.lastKey).all().exec();
assert.deepEqual([first.length, rest.length], [3, 7]);
assert.equal((await User.scan().parallel(3).exec()).length, 21);
assert.equal((await queried[0].populate()).friend.name, "Bob");

// Transactions.
await transaction([
  User.transaction.create({ id: "tom", at: 1, name: "Tom" }),
  User.transaction.update(ada, { $ADD: { age: 1 } }),
  User.transaction.delete({ id: "many", at: 1 }),
  User.transaction.condition({ id: "many", at: 2 }, new Condition("name").exists()),
]);
const pair = await transaction([User.transaction.get(ada), User.transaction.get({ id: "tom", at: 1 })]);
assert.deepEqual(pair.map((user) => user.name), ["Bob", "Tom"]);
await assert.rejects(transaction([User.transaction.create({ id: "tom", at: 1, name: "Tim" })]), {
  name: "TransactionCanceledException",
});

// The same table with other indexes and tags: it is changed.
const Later = model(
  "Later",
  new Schema({
    id: { type: String, hashKey: true },
    at: { type: Number, rangeKey: true },
    email: { type: String, index: { name: "byEmail", type: "global" } },
    age: { type: Number, index: { name: "byAge", type: "local", project: ["name"] } },
    name: String,
  }),
);
const changed = new Table(name, [Later], {
  ...settings, initialize: false, update: true, tags: { team: "blue" }, tableClass: "infrequentAccess",
});
await changed.initialize();
const { Table: described } = await client.describeTable({ TableName: name });
assert.deepEqual(described.GlobalSecondaryIndexes.map(({ IndexName }) => IndexName), ["byEmail"]);
assert.equal(described.TableClassSummary.TableClass, "STANDARD_INFREQUENT_ACCESS");
const { Tags } = await client.listTagsOfResource({ ResourceArn: described.TableArn });
assert.deepEqual(Tags, [{ Key: "team", Value: "blue" }]);

await client.deleteTable({ TableName: name });
console.log("round complete");
