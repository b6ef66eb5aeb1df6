// One round with the AWS SDK for Go v2 and with guregu/dynamo on top of it; the endpoint and the
// table's name are arguments.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/expression"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	streamtypes "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	"github.com/guregu/dynamo/v2"
)

type post struct {
	User string         `dynamodbav:"user" dynamo:"user,hash"`
	At   int            `dynamodbav:"at" dynamo:"at,range"`
	Text string         `dynamodbav:"text" dynamo:"text"`
	Tags []string       `dynamodbav:"tags,stringset,omitempty" dynamo:"tags,set"`
	Info map[string]any `dynamodbav:"info,omitempty" dynamo:"info"`
	Seen time.Time      `dynamodbav:"seen,unixtime" dynamo:"seen,unixtime"`
	Size int            `dynamodbav:"size" dynamo:"size"`
}

var (
	ctx   = context.Background()
	table string
)

func main() {
	table = os.Args[2]
	// It tries again by itself: where an answer is quicker than its own writer, it may lose one.
	settings, err := config.LoadDefaultConfig(ctx, config.WithBaseEndpoint(os.Args[1]))
	must(err)
	client := dynamodb.NewFromConfig(settings, func(o *dynamodb.Options) {
		o.EnableAcceptEncodingGzip = true // its answers' checksums are of the packed bytes
	})
	create(client)
	items(client)
	pages(client)
	transactions(client)
	stream(dynamodbstreams.NewFromConfig(settings), client)
	mapper(dynamo.New(settings))
	_, err = client.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: &table})
	must(err)
	gone := dynamodb.NewTableNotExistsWaiter(client)
	must(gone.Wait(ctx, &dynamodb.DescribeTableInput{TableName: &table}, 30*time.Second))
	fmt.Println("round complete")
}

func create(client *dynamodb.Client) {
	_, err := client.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:   &table,
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("user"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("at"), AttributeType: types.ScalarAttributeTypeN},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("user"), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String("at"), KeyType: types.KeyTypeRange},
		},
		StreamSpecification: &types.StreamSpecification{
			StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewImage,
		},
	})
	must(err)
	there := dynamodb.NewTableExistsWaiter(client)
	must(there.Wait(ctx, &dynamodb.DescribeTableInput{TableName: &table}, 30*time.Second))
	_, err = client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: aws.String("not-there")})
	var missing *types.ResourceNotFoundException
	check(errors.As(err, &missing), "a missing table", err)
}

func items(client *dynamodb.Client) {
	ada := post{User: "ada", At: 1, Text: "é 😀", Tags: []string{"a"}, Size: 3,
		Info: map[string]any{"list": []any{"one", true, nil}}, Seen: time.Unix(1_700_000_000, 0)}
	item, err := attributevalue.MarshalMap(ada)
	must(err)
	_, err = client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &table, Item: item})
	must(err)
	read, err := client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &table, Key: key("ada", 1)})
	must(err)
	var back post
	must(attributevalue.UnmarshalMap(read.Item, &back))
	check(reflect.DeepEqual(ada, back), "an item that is read", back)

	fresh, err := expression.NewBuilder().
		WithCondition(expression.Name("user").AttributeNotExists()).Build()
	must(err)
	_, err = client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: &table, Item: item, ConditionExpression: fresh.Condition(),
		ExpressionAttributeNames:            fresh.Names(),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var failed *types.ConditionalCheckFailedException
	check(errors.As(err, &failed) && len(failed.Item) == len(item), "a failed condition", err)

	change, err := expression.NewBuilder().
		WithUpdate(expression.
			Set(expression.Name("info.list[0]"), expression.Value("two")).
			Set(expression.Name("size"), expression.Name("size").Plus(expression.Value(4))).
			Add(expression.Name("tags"), expression.Value(&types.AttributeValueMemberSS{Value: []string{"b"}})).
			Remove(expression.Name("text"))).
		WithCondition(expression.Name("size").Between(expression.Value(1), expression.Value(3)).
			And(expression.Name("text").Size().LessThan(expression.Value(9)))).
		Build()
	must(err)
	updated, err := client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &table, Key: key("ada", 1), UpdateExpression: change.Update(),
		ConditionExpression: change.Condition(), ExpressionAttributeNames: change.Names(),
		ExpressionAttributeValues: change.Values(), ReturnValues: types.ReturnValueAllNew,
	})
	must(err)
	back = post{}
	must(attributevalue.UnmarshalMap(updated.Attributes, &back))
	check(back.Size == 7 && back.Text == "" && len(back.Tags) == 2, "an update", back)
	check(back.Info["list"].([]any)[0] == "two", "a path that is set", back)
}

func pages(client *dynamodb.Client) {
	var writes []types.WriteRequest
	for at := range 25 {
		item, err := attributevalue.MarshalMap(post{User: "bob", At: at, Text: "hello", Size: at % 5})
		must(err)
		writes = append(writes, types.WriteRequest{PutRequest: &types.PutRequest{Item: item}})
	}
	written, err := client.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{
		RequestItems: map[string][]types.WriteRequest{table: writes},
	})
	must(err)
	check(len(written.UnprocessedItems) == 0, "a batch", written.UnprocessedItems)

	wanted, err := expression.NewBuilder().
		WithKeyCondition(expression.Key("user").Equal(expression.Value("bob")).
			And(expression.Key("at").GreaterThanEqual(expression.Value(10)))).
		WithFilter(expression.Name("size").In(expression.Value(0), expression.Value(1))).
		WithProjection(expression.NamesList(expression.Name("at"))).
		Build()
	must(err)
	query := dynamodb.NewQueryPaginator(client, &dynamodb.QueryInput{
		TableName: &table, KeyConditionExpression: wanted.KeyCondition(),
		FilterExpression: wanted.Filter(), ProjectionExpression: wanted.Projection(),
		ExpressionAttributeNames: wanted.Names(), ExpressionAttributeValues: wanted.Values(),
		Limit: aws.Int32(4),
	})
	var found []post
	for query.HasMorePages() {
		page, err := query.NextPage(ctx)
		must(err)
		var posts []post
		must(attributevalue.UnmarshalListOfMaps(page.Items, &posts))
		found = append(found, posts...)
	}
	check(len(found) == 6 && found[0].At == 10 && found[5].At == 21, "pages of a query", found)

	scanned := 0
	scan := dynamodb.NewScanPaginator(client, &dynamodb.ScanInput{TableName: &table, Limit: aws.Int32(7)})
	for scan.HasMorePages() {
		page, err := scan.NextPage(ctx)
		must(err)
		scanned += len(page.Items)
	}
	check(scanned == 26, "pages of a scan", scanned)
}

func transactions(client *dynamodb.Client) {
	missing := types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
		TableName: &table, Key: key("nobody", 1),
		ConditionExpression:      aws.String("attribute_exists(#u)"),
		ExpressionAttributeNames: map[string]string{"#u": "user"},
	}}
	gone := types.TransactWriteItem{Delete: &types.Delete{TableName: &table, Key: key("bob", 0)}}
	_, err := client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
		TransactItems: []types.TransactWriteItem{gone, missing},
	})
	var canceled *types.TransactionCanceledException
	check(errors.As(err, &canceled), "a transaction", err)
	check(*canceled.CancellationReasons[1].Code == "ConditionalCheckFailed", "its reason", err)
	_, err = client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
		TransactItems: []types.TransactWriteItem{gone},
	})
	must(err)
}

func stream(streams *dynamodbstreams.Client, client *dynamodb.Client) {
	described, err := client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &table})
	must(err)
	arn := described.Table.LatestStreamArn
	shards, err := streams.DescribeStream(ctx, &dynamodbstreams.DescribeStreamInput{StreamArn: arn})
	must(err)
	events := map[streamtypes.OperationType]int{}
	for _, shard := range shards.StreamDescription.Shards {
		iterator, err := streams.GetShardIterator(ctx, &dynamodbstreams.GetShardIteratorInput{
			StreamArn: arn, ShardId: shard.ShardId,
			ShardIteratorType: streamtypes.ShardIteratorTypeTrimHorizon,
		})
		must(err)
		page, err := streams.GetRecords(ctx, &dynamodbstreams.GetRecordsInput{
			ShardIterator: iterator.ShardIterator,
		})
		must(err)
		for _, record := range page.Records {
			image, err := attributevalue.FromDynamoDBStreamsMap(record.Dynamodb.NewImage)
			must(err)
			var read post
			must(attributevalue.UnmarshalMap(image, &read))
			events[record.EventName]++
		}
	}
	want := map[streamtypes.OperationType]int{"INSERT": 26, "MODIFY": 1, "REMOVE": 1}
	check(reflect.DeepEqual(events, want), "the stream", events)
}

func mapper(db *dynamo.DB) {
	posts := db.Table(table)
	var found []post
	must(posts.Get("user", "bob").Range("at", dynamo.Between, 5, 20).
		Filter("$ > ?", "size", 2).Order(dynamo.Descending).Limit(3).All(ctx, &found))
	check(len(found) == 3 && found[0].At == 19, "a query of the mapper", found)
	again := posts.Put(found[0]).If("attribute_not_exists($)", "user").Run(ctx)
	check(dynamo.IsCondCheckFailed(again), "a condition of the mapper", again)
	must(db.WriteTx().Idempotent(true).
		Put(posts.Put(post{User: "eve", At: 1})).
		Update(posts.Update("user", "bob").Range("at", 1).Add("size", 5)).Run(ctx))
	var changed post
	must(posts.Get("user", "bob").Range("at", dynamo.Equal, 1).Consistent(true).One(ctx, &changed))
	check(changed.Size == 6, "a transaction of the mapper", changed)
}

func key(user string, at int) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{
		"user": &types.AttributeValueMemberS{Value: user},
		"at":   &types.AttributeValueMemberN{Value: fmt.Sprint(at)},
	}
}

func must(err error) { check(err == nil, "it failed", err) }

func check(holds bool, what string, found any) {
	if !holds {
		panic(fmt.Sprintf("%s: %v", what, found))
	}
}
