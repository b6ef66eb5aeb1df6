// One round with the Kinesis Client Library on DynamoDB Streams; the endpoint and the table's name
// are arguments. A worker reads a stream, a second one goes on where it ended, and sees the end of
// the shards when the stream is switched off.

import com.amazonaws.services.dynamodbv2.streamsadapter.AmazonDynamoDBStreamsAdapterClient;
import com.amazonaws.services.dynamodbv2.streamsadapter.StreamsSchedulerFactory;
import com.amazonaws.services.dynamodbv2.streamsadapter.model.DynamoDBStreamsProcessRecordsInput;
import com.amazonaws.services.dynamodbv2.streamsadapter.polling.DynamoDBStreamsPollingConfig;
import com.amazonaws.services.dynamodbv2.streamsadapter.processor.DynamoDBStreamsShardRecordProcessor;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbClient;
import software.amazon.awssdk.services.dynamodb.model.AttributeValue;
import software.amazon.awssdk.services.dynamodb.model.BillingMode;
import software.amazon.awssdk.services.dynamodb.model.KeyType;
import software.amazon.awssdk.services.dynamodb.model.Record;
import software.amazon.awssdk.services.dynamodb.model.ScalarAttributeType;
import software.amazon.awssdk.services.dynamodb.model.StreamViewType;
import software.amazon.awssdk.services.dynamodb.streams.DynamoDbStreamsClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.exceptions.InvalidStateException;
import software.amazon.kinesis.exceptions.ShutdownException;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.MetricsLevel;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;

public final class KclRound {
  // The adapter takes only streams of regions that AWS has.
  private static final Region REGION = Region.EU_CENTRAL_1;
  private static final int ITEMS = 24;
  private static final StaticCredentialsProvider CREDENTIALS =
      StaticCredentialsProvider.create(AwsBasicCredentials.create("local", "local"));

  private final URI endpoint;
  private final String table;
  private final DynamoDbClient client;
  private final BlockingQueue<Record> records = new LinkedBlockingQueue<>();
  private final BlockingQueue<String> endedShards = new LinkedBlockingQueue<>();

  private KclRound(URI endpoint, String table) {
    this.endpoint = endpoint;
    this.table = table;
    client = DynamoDbClient.builder().endpointOverride(endpoint).region(REGION)
        .credentialsProvider(CREDENTIALS).build();
  }

  public static void main(String[] arguments) throws Exception {
    new KclRound(URI.create(arguments[0]), arguments[1]).run();
    System.out.println("round complete");
    // The library's threads would keep the process for a minute.
    System.exit(0);
  }

  private void run() throws Exception {
    String stream = createTable();
    Scheduler first = start(stream, "first");
    for (int number = 0; number < ITEMS; number++) {
      put(number, 1);
    }
    for (int number = 0; number < ITEMS; number += 2) {
      put(number, 2);
    }
    for (int number = 0; number < ITEMS; number += 4) {
      Map<String, AttributeValue> key = key(number);
      client.deleteItem(request -> request.tableName(table).key(key));
    }
    Map<String, String> expected = new TreeMap<>();
    for (int number = 0; number < ITEMS; number++) {
      expected.put(name(number), "INSERT 1" + (number % 2 == 0 ? ", MODIFY 1-2" : "")
          + (number % 4 == 0 ? ", REMOVE 2" : ""));
    }
    same(expected, read(ITEMS + ITEMS / 2 + ITEMS / 4));
    same(true, first.startGracefulShutdown().get(60, TimeUnit.SECONDS));

    put(100, 1);
    Scheduler second = start(stream, "second");
    put(101, 1);
    same(Map.of(name(100), "INSERT 1", name(101), "INSERT 1"), read(2));

    // An item's changes of after a split come after those of before, from a child of its shard.
    int parents = shards(stream);
    split(2 * parents);
    for (int number = 1; number < ITEMS; number += 4) {
      put(number, 3);
      expected.put(name(number), "MODIFY 1-3");
    }
    expected.values().removeIf(told -> told.startsWith("INSERT"));
    same(expected, read(ITEMS / 4));
    Set<String> ended = ended(parents);

    int shards = shards(stream);
    same(3 * parents, shards);
    client.updateTable(request -> request.tableName(table)
        .streamSpecification(specification -> specification.streamEnabled(false)));
    ended.addAll(ended(shards - parents));
    same(shards, ended.size());
    same(null, records.poll());
    second.shutdown();
    client.deleteTable(request -> request.tableName(table));
  }

  private String createTable() {
    var created = client.createTable(request -> request.tableName(table)
        .attributeDefinitions(
            attribute -> attribute.attributeName("id").attributeType(ScalarAttributeType.S))
        .keySchema(key -> key.attributeName("id").keyType(KeyType.HASH))
        .billingMode(BillingMode.PAY_PER_REQUEST)
        .streamSpecification(specification -> specification.streamEnabled(true)
            .streamViewType(StreamViewType.NEW_AND_OLD_IMAGES)));
    client.waiter().waitUntilTableExists(request -> request.tableName(table));
    return created.tableDescription().latestStreamArn();
  }

  private Set<String> ended(int count) throws InterruptedException {
    Set<String> ended = new HashSet<>();
    while (ended.size() < count) {
      ended.add(Objects.requireNonNull(endedShards.poll(60, TimeUnit.SECONDS), "no shard ended"));
    }
    return ended;
  }

  // Have the region's number of shards made larger, and wait until it is.
  private void split(int count) throws Exception {
    URI page = endpoint.resolve("/_streamtable/reshard");
    var asked = HttpRequest.newBuilder(page)
        .POST(HttpRequest.BodyPublishers.ofString("{\"shards\":" + count + "}")).build();
    var told = HttpResponse.BodyHandlers.ofString();
    HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    same(200, http.send(asked, told).statusCode());
    var status = HttpRequest.newBuilder(page).build();
    while (!http.send(status, told).body().contains("\"shards\":" + count)) {
      Thread.sleep(100);
    }
  }

  private int shards(String stream) {
    try (DynamoDbStreamsClient streams = streamsClient()) {
      return streams.describeStream(request -> request.streamArn(stream))
          .streamDescription().shards().size();
    }
  }

  private Scheduler start(String stream, String worker) {
    var adapter = new AmazonDynamoDBStreamsAdapterClient(streamsClient(), REGION);
    var dynamo = DynamoDbAsyncClient.builder().endpointOverride(endpoint).region(REGION)
        .credentialsProvider(CREDENTIALS).build();
    var cloudWatch = CloudWatchAsyncClient.builder().endpointOverride(endpoint).region(REGION)
        .credentialsProvider(CREDENTIALS).build();
    var tracker = StreamsSchedulerFactory.createSingleStreamTracker(stream,
        InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON));
    var configs = new ConfigsBuilder(
        tracker, table + "-workers", adapter, dynamo, cloudWatch, worker, Processor::new);
    var polling = new DynamoDBStreamsPollingConfig(adapter);
    polling.idleTimeBetweenReadsInMillis(100);
    var scheduler = StreamsSchedulerFactory.createScheduler(
        configs.checkpointConfig(),
        configs.coordinatorConfig().parentShardPollIntervalMillis(500)
            .shardConsumerDispatchPollIntervalMillis(100),
        configs.leaseManagementConfig().failoverTimeMillis(3000).shardSyncIntervalMillis(1000)
            .leaseAssignmentIntervalMillis(500L).billingMode(BillingMode.PAY_PER_REQUEST),
        configs.lifecycleConfig(),
        configs.metricsConfig().metricsLevel(MetricsLevel.NONE),
        configs.processorConfig(),
        configs.retrievalConfig().retrievalSpecificConfig(polling),
        adapter);
    Thread thread = new Thread(scheduler, worker);
    thread.setDaemon(true);
    thread.start();
    return scheduler;
  }

  private DynamoDbStreamsClient streamsClient() {
    return DynamoDbStreamsClient.builder().endpointOverride(endpoint).region(REGION)
        .credentialsProvider(CREDENTIALS).build();
  }

  private void put(int number, int value) {
    Map<String, AttributeValue> item = new HashMap<>(key(number));
    item.put("value", AttributeValue.fromN(Integer.toString(value)));
    client.putItem(request -> request.tableName(table).item(item));
  }

  // What was read of each item, in its order.
  private Map<String, String> read(int count) throws InterruptedException {
    Map<String, String> told = new TreeMap<>();
    for (int number = 0; number < count; number++) {
      Record record = Objects.requireNonNull(records.poll(90, TimeUnit.SECONDS),
          "no record came; so far: " + told);
      var change = record.dynamodb();
      String values = switch (record.eventName()) {
        case INSERT -> value(change.newImage());
        case MODIFY -> value(change.oldImage()) + "-" + value(change.newImage());
        default -> value(change.oldImage());
      };
      told.merge(change.keys().get("id").s(), record.eventNameAsString() + " " + values,
          (before, after) -> before + ", " + after);
    }
    return told;
  }

  private static String value(Map<String, AttributeValue> image) {
    return image.get("value").n();
  }

  private static String name(int number) {
    return "item-" + number;
  }

  private static Map<String, AttributeValue> key(int number) {
    return Map.of("id", AttributeValue.fromS(name(number)));
  }

  private static void same(Object expected, Object actual) {
    if (!Objects.equals(expected, actual)) {
      throw new AssertionError("expected " + expected + ", got " + actual);
    }
  }

  private final class Processor implements DynamoDBStreamsShardRecordProcessor {
    private String shard;

    @Override
    public void initialize(InitializationInput input) {
      shard = input.shardId();
    }

    @Override
    public void processRecords(DynamoDBStreamsProcessRecordsInput input) {
      input.records().forEach(record -> records.add(record.getRecord()));
      if (!input.records().isEmpty()) {
        checkpoint(input.checkpointer());
      }
    }

    @Override
    public void leaseLost(LeaseLostInput input) {}

    @Override
    public void shardEnded(ShardEndedInput input) {
      checkpoint(input.checkpointer());
      endedShards.add(shard);
    }

    @Override
    public void shutdownRequested(ShutdownRequestedInput input) {
      checkpoint(input.checkpointer());
    }

    private void checkpoint(RecordProcessorCheckpointer checkpointer) {
      try {
        checkpointer.checkpoint();
      } catch (InvalidStateException | ShutdownException error) {
        throw new IllegalStateException(error);
      }
    }
  }
}
