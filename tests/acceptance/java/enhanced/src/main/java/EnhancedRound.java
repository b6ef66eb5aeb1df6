// One round with the enhanced client of the AWS SDK for Java 2; the endpoint and the table's name
// are arguments.

import java.net.URI;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.CompletionException;
import java.util.function.BooleanSupplier;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.waiters.WaiterOverrideConfiguration;
import software.amazon.awssdk.enhanced.dynamodb.DynamoDbAsyncTable;
import software.amazon.awssdk.enhanced.dynamodb.DynamoDbEnhancedAsyncClient;
import software.amazon.awssdk.enhanced.dynamodb.DynamoDbEnhancedClient;
import software.amazon.awssdk.enhanced.dynamodb.DynamoDbIndex;
import software.amazon.awssdk.enhanced.dynamodb.DynamoDbTable;
import software.amazon.awssdk.enhanced.dynamodb.Expression;
import software.amazon.awssdk.enhanced.dynamodb.Key;
import software.amazon.awssdk.enhanced.dynamodb.TableSchema;
import software.amazon.awssdk.enhanced.dynamodb.extensions.annotations.DynamoDbAtomicCounter;
import software.amazon.awssdk.enhanced.dynamodb.extensions.annotations.DynamoDbVersionAttribute;
import software.amazon.awssdk.enhanced.dynamodb.mapper.annotations.DynamoDbBean;
import software.amazon.awssdk.enhanced.dynamodb.mapper.annotations.DynamoDbPartitionKey;
import software.amazon.awssdk.enhanced.dynamodb.mapper.annotations.DynamoDbSecondaryPartitionKey;
import software.amazon.awssdk.enhanced.dynamodb.mapper.annotations.DynamoDbSecondarySortKey;
import software.amazon.awssdk.enhanced.dynamodb.mapper.annotations.DynamoDbSortKey;
import software.amazon.awssdk.enhanced.dynamodb.model.BatchGetItemEnhancedRequest;
import software.amazon.awssdk.enhanced.dynamodb.model.BatchGetResultPageIterable;
import software.amazon.awssdk.enhanced.dynamodb.model.BatchWriteItemEnhancedRequest;
import software.amazon.awssdk.enhanced.dynamodb.model.ConditionCheck;
import software.amazon.awssdk.enhanced.dynamodb.model.CreateTableEnhancedRequest;
import software.amazon.awssdk.enhanced.dynamodb.model.Page;
import software.amazon.awssdk.enhanced.dynamodb.model.PutItemEnhancedRequest;
import software.amazon.awssdk.enhanced.dynamodb.model.QueryConditional;
import software.amazon.awssdk.enhanced.dynamodb.model.QueryEnhancedRequest;
import software.amazon.awssdk.enhanced.dynamodb.model.ReadBatch;
import software.amazon.awssdk.enhanced.dynamodb.model.ScanEnhancedRequest;
import software.amazon.awssdk.enhanced.dynamodb.model.TransactGetItemsEnhancedRequest;
import software.amazon.awssdk.enhanced.dynamodb.model.TransactWriteItemsEnhancedRequest;
import software.amazon.awssdk.enhanced.dynamodb.model.WriteBatch;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.retries.api.BackoffStrategy;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbClient;
import software.amazon.awssdk.services.dynamodb.model.AttributeValue;
import software.amazon.awssdk.services.dynamodb.model.CancellationReason;
import software.amazon.awssdk.services.dynamodb.model.ConditionalCheckFailedException;
import software.amazon.awssdk.services.dynamodb.model.OperationType;
import software.amazon.awssdk.services.dynamodb.model.ProjectionType;
import software.amazon.awssdk.services.dynamodb.model.Record;
import software.amazon.awssdk.services.dynamodb.model.ReturnValuesOnConditionCheckFailure;
import software.amazon.awssdk.services.dynamodb.model.Shard;
import software.amazon.awssdk.services.dynamodb.model.ShardIteratorType;
import software.amazon.awssdk.services.dynamodb.model.StreamViewType;
import software.amazon.awssdk.services.dynamodb.model.TransactionCanceledException;
import software.amazon.awssdk.services.dynamodb.streams.DynamoDbStreamsClient;

public final class EnhancedRound {
  private static final StaticCredentialsProvider CREDENTIALS =
      StaticCredentialsProvider.create(AwsBasicCredentials.create("local", "local"));

  private final DynamoDbClient client;
  private final DynamoDbAsyncClient asyncClient;
  private final DynamoDbStreamsClient streams;
  private final DynamoDbEnhancedClient enhanced;
  private final DynamoDbTable<Track> tracks;

  private EnhancedRound(URI endpoint, String table) {
    client = DynamoDbClient.builder().endpointOverride(endpoint).region(Region.of("local"))
        .credentialsProvider(CREDENTIALS).build();
    asyncClient = DynamoDbAsyncClient.builder().endpointOverride(endpoint)
        .region(Region.of("local")).credentialsProvider(CREDENTIALS).build();
    streams = DynamoDbStreamsClient.builder().endpointOverride(endpoint)
        .region(Region.of("local")).credentialsProvider(CREDENTIALS).build();
    enhanced = DynamoDbEnhancedClient.builder().dynamoDbClient(client).build();
    tracks = enhanced.table(table, TableSchema.fromBean(Track.class));
  }

  public static void main(String[] arguments) {
    EnhancedRound round = new EnhancedRound(URI.create(arguments[0]), arguments[1]);
    round.create();
    round.beans();
    round.versions();
    round.pages();
    round.batches();
    round.transactions();
    round.asynchronously();
    round.statements();
    round.stream();
    round.delete();
    System.out.println("round complete");
    System.exit(0);
  }

  private void create() {
    tracks.createTable(CreateTableEnhancedRequest.builder()
        .globalSecondaryIndices(index -> index.indexName("by-genre")
            .projection(projection -> projection.projectionType(ProjectionType.ALL)))
        .localSecondaryIndices(index -> index.indexName("by-length")
            .projection(projection -> projection.projectionType(ProjectionType.KEYS_ONLY)))
        .streamSpecification(stream -> stream.streamEnabled(true)
            .streamViewType(StreamViewType.NEW_AND_OLD_IMAGES))
        .build());
    var waited = client.waiter().waitUntilTableExists(
        request -> request.tableName(tracks.tableName()), EnhancedRound::patience);
    var described = waited.matched().response().orElseThrow().table();
    same("ACTIVE", described.tableStatusAsString());
    same("ACTIVE", described.globalSecondaryIndexes().get(0).indexStatusAsString());
  }

  private void beans() {
    Track track = track("Nina Simone", "Sinnerman", "soul", 622);
    track.setTags(Set.of("live", "long"));
    track.setNotes(Map.of("label", "Philips"));
    tracks.putItem(track);
    Track read = tracks.getItem(request -> request.key(key("Nina Simone", "Sinnerman"))
        .consistentRead(true));
    same(Set.of("live", "long"), read.getTags());
    same(Map.of("label", "Philips"), read.getNotes());
    same(1L, read.getVersion());
    same(0L, read.getWrites());
    same(null, tracks.getItem(key("Nina Simone", "none")));

    var refused = fails(ConditionalCheckFailedException.class, () -> tracks.putItem(
        PutItemEnhancedRequest.builder(Track.class)
            .item(track("Nina Simone", "Sinnerman", "jazz", 1))
            .conditionExpression(Expression.builder()
                .expression("attribute_not_exists(artist)").build())
            .returnValuesOnConditionCheckFailure(ReturnValuesOnConditionCheckFailure.ALL_OLD)
            .build()));
    same("The conditional request failed", refused.awsErrorDetails().errorMessage());
    same("soul", refused.item().get("genre").s());
  }

  private void versions() {
    Track first = tracks.getItem(key("Nina Simone", "Sinnerman"));
    Track second = tracks.getItem(key("Nina Simone", "Sinnerman"));
    first.setSeconds(623);
    Track updated = tracks.updateItem(first);
    same(2L, updated.getVersion());
    same(1L, updated.getWrites());
    second.setSeconds(1);
    fails(ConditionalCheckFailedException.class, () -> tracks.updateItem(second));
    same(623, tracks.getItem(key("Nina Simone", "Sinnerman")).getSeconds());
  }

  private void pages() {
    for (int number = 10; number < 40; number++) {
      tracks.putItem(track("Bach", "BWV " + number, number % 2 == 0 ? "fugue" : "prelude", number));
    }
    List<String> titles = new ArrayList<>();
    int count = 0;
    for (Page<Track> page : tracks.query(QueryEnhancedRequest.builder()
        .queryConditional(QueryConditional.sortBetween(key("Bach", "BWV 20"), key("Bach", "BWV 35")))
        .filterExpression(Expression.builder().expression("genre = :genre")
            .putExpressionValue(":genre", AttributeValue.fromS("fugue")).build())
        .limit(5).scanIndexForward(false).build())) {
      page.items().forEach(track -> titles.add(track.getTitle()));
      count++;
    }
    same(List.of("BWV 34", "BWV 32", "BWV 30", "BWV 28", "BWV 26", "BWV 24", "BWV 22", "BWV 20"),
        titles);
    same(4, count);

    DynamoDbIndex<Track> byGenre = tracks.index("by-genre");
    var ofGenre = QueryConditional.sortGreaterThan(
        key -> key.partitionValue("prelude").sortValue(30));
    eventually(() -> {
      List<Integer> lengths = new ArrayList<>();
      byGenre.query(request -> request.queryConditional(ofGenre).limit(2))
          .forEach(page -> page.items().forEach(track -> lengths.add(track.getSeconds())));
      return lengths.equals(List.of(31, 33, 35, 37, 39));
    });

    var shortest = tracks.index("by-length").query(request -> request
        .queryConditional(QueryConditional.keyEqualTo(key -> key.partitionValue("Bach")))
        .consistentRead(true).limit(1)).stream().findFirst().orElseThrow().items().get(0);
    same("BWV 10", shortest.getTitle());
    same(null, shortest.getGenre());

    Set<String> seen = new HashSet<>();
    for (int segment = 0; segment < 3; segment++) {
      tracks.scan(ScanEnhancedRequest.builder().segment(segment).totalSegments(3).limit(4).build())
          .items().forEach(track -> same(true, seen.add(track.getTitle())));
    }
    same(31, seen.size());
  }

  private void batches() {
    // Versions are conditions, and a batch takes none.
    DynamoDbEnhancedClient plain =
        DynamoDbEnhancedClient.builder().dynamoDbClient(client).extensions().build();
    DynamoDbTable<Track> unversioned =
        plain.table(tracks.tableName(), TableSchema.fromBean(Track.class));
    var batch = WriteBatch.builder(Track.class).mappedTableResource(unversioned);
    for (int number = 0; number < 20; number++) {
      batch.addPutItem(track("Satie", "Gnossienne " + number, "piano", number));
    }
    batch.addDeleteItem(key("Bach", "BWV 10"));
    var written = plain.batchWriteItem(
        BatchWriteItemEnhancedRequest.builder().writeBatches(batch.build()).build());
    same(List.of(), written.unprocessedPutItemsForTable(unversioned));
    BatchGetResultPageIterable read = enhanced.batchGetItem(BatchGetItemEnhancedRequest.builder()
        .readBatches(ReadBatch.builder(Track.class).mappedTableResource(tracks)
            .addGetItem(key("Satie", "Gnossienne 3")).addGetItem(key("Satie", "Gnossienne 4"))
            .addGetItem(key("Bach", "BWV 10")).build())
        .build());
    same(2L, read.resultsForTable(tracks).stream().count());
  }

  private void transactions() {
    enhanced.transactWriteItems(TransactWriteItemsEnhancedRequest.builder()
        .addPutItem(tracks, track("Ravel", "Bolero", "orchestra", 900))
        .addDeleteItem(tracks, key("Satie", "Gnossienne 0"))
        .addConditionCheck(tracks, ConditionCheck.builder().key(key("Satie", "Gnossienne 1"))
            .conditionExpression(Expression.builder().expression("attribute_exists(artist)").build())
            .build())
        .clientRequestToken("ravel")
        .build());
    var documents = enhanced.transactGetItems(TransactGetItemsEnhancedRequest.builder()
        .addGetItem(tracks, key("Ravel", "Bolero"))
        .addGetItem(tracks, key("Satie", "Gnossienne 0"))
        .build());
    same(900, documents.get(0).getItem(tracks).getSeconds());
    same(null, documents.get(1).getItem(tracks));

    var cancelled = fails(TransactionCanceledException.class, () ->
        enhanced.transactWriteItems(TransactWriteItemsEnhancedRequest.builder()
            .addPutItem(tracks, track("Ravel", "Jeux d'eau", "piano", 330))
            .addConditionCheck(tracks, ConditionCheck.builder().key(key("Ravel", "none"))
                .conditionExpression(
                    Expression.builder().expression("attribute_exists(artist)").build())
                .build())
            .build()));
    same(List.of("None", "ConditionalCheckFailed"),
        cancelled.cancellationReasons().stream().map(CancellationReason::code).toList());
    same(null, tracks.getItem(key("Ravel", "Jeux d'eau")));
  }

  private void asynchronously() {
    DynamoDbAsyncTable<Track> table = DynamoDbEnhancedAsyncClient.builder()
        .dynamoDbClient(asyncClient).build()
        .table(tracks.tableName(), TableSchema.fromBean(Track.class));
    same(900, table.getItem(key("Ravel", "Bolero")).join().getSeconds());
    List<String> titles = new ArrayList<>();
    table.query(QueryConditional.keyEqualTo(key -> key.partitionValue("Satie"))).items()
        .subscribe(track -> titles.add(track.getTitle())).join();
    same(19, titles.size());
    var failed = fails(CompletionException.class, () -> table.deleteItem(request -> request
        .key(key("Ravel", "Bolero")).conditionExpression(Expression.builder()
            .expression("seconds < :limit")
            .putExpressionValue(":limit", AttributeValue.fromN("10")).build())).join());
    same(ConditionalCheckFailedException.class, failed.getCause().getClass());
  }

  private void statements() {
    String table = '"' + tracks.tableName() + '"';
    client.executeStatement(request -> request
        .statement("UPDATE " + table + " SET seconds = seconds + 1 WHERE artist = ? AND title = ?")
        .parameters(AttributeValue.fromS("Ravel"), AttributeValue.fromS("Bolero")));
    var selected = client.executeStatement(request -> request
        .statement("SELECT title, seconds FROM " + table + " WHERE artist = ?")
        .parameters(AttributeValue.fromS("Ravel")).consistentRead(true));
    same(List.of(Map.of("title", AttributeValue.fromS("Bolero"), "seconds",
        AttributeValue.fromN("901"))), selected.items());
  }

  private void stream() {
    String arn = tracks.describeTable().table().latestStreamArn();
    List<Record> records = new ArrayList<>();
    for (Shard shard : streams.describeStream(request -> request.streamArn(arn))
        .streamDescription().shards()) {
      String iterator = streams.getShardIterator(request -> request.streamArn(arn)
          .shardId(shard.shardId()).shardIteratorType(ShardIteratorType.TRIM_HORIZON))
          .shardIterator();
      for (int reads = 0; reads < 10; reads++) {
        String from = iterator;
        var read = streams.getRecords(request -> request.shardIterator(from).limit(20));
        records.addAll(read.records());
        iterator = read.nextShardIterator();
      }
    }
    var ofBolero = records.stream()
        .filter(record -> "Bolero".equals(record.dynamodb().keys().get("title").s())).toList();
    same(List.of(OperationType.INSERT, OperationType.MODIFY),
        ofBolero.stream().map(Record::eventName).toList());
    var changed = ofBolero.get(1).dynamodb();
    same("900", changed.oldImage().get("seconds").n());
    same("901", changed.newImage().get("seconds").n());
    // 1 put, 1 update, 30 puts, 20 puts, 1 delete, 1 put, 1 delete, 1 update.
    same(56, records.size());
  }

  private void delete() {
    tracks.deleteTable();
    client.waiter().waitUntilTableNotExists(
        request -> request.tableName(tracks.tableName()), EnhancedRound::patience);
    client.close();
    asyncClient.close();
    streams.close();
  }

  private static void patience(WaiterOverrideConfiguration.Builder waiter) {
    waiter.maxAttempts(150)
        .backoffStrategyV2(BackoffStrategy.fixedDelayWithoutJitter(Duration.ofMillis(200)));
  }

  private static Key key(String artist, String title) {
    return Key.builder().partitionValue(artist).sortValue(title).build();
  }

  private static Track track(String artist, String title, String genre, int seconds) {
    Track track = new Track();
    track.setArtist(artist);
    track.setTitle(title);
    track.setGenre(genre);
    track.setSeconds(seconds);
    return track;
  }

  private static void same(Object expected, Object actual) {
    if (!Objects.equals(expected, actual)) {
      throw new AssertionError("expected " + expected + ", got " + actual);
    }
  }

  private static <T extends Exception> T fails(Class<T> expected, Runnable action) {
    try {
      action.run();
    } catch (Exception error) {
      if (expected.isInstance(error)) {
        return expected.cast(error);
      }
      throw error;
    }
    throw new AssertionError("expected " + expected);
  }

  private static void eventually(BooleanSupplier condition) {
    for (long end = System.nanoTime() + 20_000_000_000L; !condition.getAsBoolean();) {
      if (System.nanoTime() > end) {
        throw new AssertionError("not within 20 s");
      }
    }
  }

  @DynamoDbBean
  public static final class Track {
    private String artist;
    private String title;
    private String genre;
    private Integer seconds;
    private Set<String> tags;
    private Map<String, String> notes;
    private Long version;
    private Long writes;

    @DynamoDbPartitionKey
    @DynamoDbSecondaryPartitionKey(indexNames = "by-length")
    public String getArtist() {
      return artist;
    }

    public void setArtist(String artist) {
      this.artist = artist;
    }

    @DynamoDbSortKey
    public String getTitle() {
      return title;
    }

    public void setTitle(String title) {
      this.title = title;
    }

    @DynamoDbSecondaryPartitionKey(indexNames = "by-genre")
    public String getGenre() {
      return genre;
    }

    public void setGenre(String genre) {
      this.genre = genre;
    }

    @DynamoDbSecondarySortKey(indexNames = {"by-genre", "by-length"})
    public Integer getSeconds() {
      return seconds;
    }

    public void setSeconds(Integer seconds) {
      this.seconds = seconds;
    }

    public Set<String> getTags() {
      return tags;
    }

    public void setTags(Set<String> tags) {
      this.tags = tags;
    }

    public Map<String, String> getNotes() {
      return notes;
    }

    public void setNotes(Map<String, String> notes) {
      this.notes = notes;
    }

    @DynamoDbVersionAttribute
    public Long getVersion() {
      return version;
    }

    public void setVersion(Long version) {
      this.version = version;
    }

    @DynamoDbAtomicCounter
    public Long getWrites() {
      return writes;
    }

    public void setWrites(Long writes) {
      this.writes = writes;
    }
  }
}
