package main

import (
	"bytes"
	"fmt"
	"math/rand"
	"strings"
	"sync/atomic"
)

// request is one operation and what its answer has to contain, besides having status 200.
type request struct {
	operation, body, expected string
}

// workload says which table it needs, what is in it before, and what each request is.
type workload struct {
	name    string
	sorted  bool // the table has a sort key
	items   func(s scale) int
	item    func(i int) string
	request func(table string, s scale, r *rand.Rand, next *atomic.Int64) request
}

// scale is how much is stored before the clock starts.
type scale struct{ keys, partitions int }

const perPartition = 10

var kilobyte, hundredBytes = attributes(10, 94), attributes(1, 60)

// attributes returns JSON members: ten of 94 bytes and a key make an item of 1 KB.
func attributes(count, size int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 "
	r := rand.New(rand.NewSource(1))
	var b strings.Builder
	for i := 0; i < count; i++ {
		value := make([]byte, size)
		for j := range value {
			value[j] = letters[r.Intn(len(letters))]
		}
		fmt.Fprintf(&b, `,"field%d":{"S":"%s"}`, i, value)
	}
	return b.String()
}

func key(i int) string { return fmt.Sprintf(`"id":{"S":"item-%09d"}`, i) }

func sortedKey(i int) string {
	return fmt.Sprintf(`"id":{"S":"part-%09d"},"at":{"S":"row-%02d"}`, i/perPartition, i%perPartition)
}

func none(scale) int       { return 0 }
func byKey(s scale) int    { return s.keys }
func byPart(s scale) int   { return s.partitions * perPartition }
func large(i int) string   { return "{" + key(i) + kilobyte + "}" }
func counter(i int) string { return "{" + key(i) + `,"n":{"N":"0"}}` }

func put(extra string) func(string, scale, *rand.Rand, *atomic.Int64) request {
	return func(table string, _ scale, _ *rand.Rand, next *atomic.Int64) request {
		item := large(int(next.Add(1)))
		return request{"PutItem", `{"TableName":"` + table + `","Item":` + item + extra + `}`, "{}"}
	}
}

func get(extra string) func(string, scale, *rand.Rand, *atomic.Int64) request {
	return func(table string, s scale, r *rand.Rand, _ *atomic.Int64) request {
		k := key(r.Intn(s.keys))
		return request{"GetItem", `{"TableName":"` + table + `","Key":{` + k + `}` + extra + `}`, `"field9"`}
	}
}

func query(table string, s scale, r *rand.Rand, _ *atomic.Int64) request {
	return request{"Query", fmt.Sprintf(`{"TableName":"%s","KeyConditionExpression":"id = :id",`+
		`"ExpressionAttributeValues":{":id":{"S":"part-%09d"}}}`, table, r.Intn(s.partitions)), `"Count":10`}
}

func increment(table string, s scale, r *rand.Rand, _ *atomic.Int64) request {
	return request{"UpdateItem", `{"TableName":"` + table + `","Key":{` + key(r.Intn(s.keys)) +
		`},"UpdateExpression":"ADD n :one","ExpressionAttributeValues":{":one":{"N":"1"}}}`, "{"}
}

func batch(table string, _ scale, _ *rand.Rand, next *atomic.Int64) request {
	last := int(next.Add(25))
	items := make([]string, 25)
	for i := range items {
		items[i] = large(last - i)
	}
	return batchOf(table, items)
}

func batchOf(table string, items []string) request {
	return request{"BatchWriteItem", `{"RequestItems":{"` + table + `":[{"PutRequest":{"Item":` +
		strings.Join(items, `}},{"PutRequest":{"Item":`) + `}}]}}`, `"UnprocessedItems":{}`}
}

func transaction(table string, _ scale, _ *rand.Rand, next *atomic.Int64) request {
	last := int(next.Add(4))
	puts := make([]string, 4)
	for i := range puts {
		puts[i] = `{"Put":{"TableName":"` + table + `","Item":` + large(last-i) + `}}`
	}
	return request{"TransactWriteItems", `{"TransactItems":[` + strings.Join(puts, ",") + `]}`, "{}"}
}

var workloads = []workload{
	{"put", false, none, nil, put("")},
	{"put-if-not-exists", false, none, nil, put(`,"ConditionExpression":"attribute_not_exists(id)"`)},
	{"update-add", false, byKey, counter, increment},
	{"get", false, byKey, large, get("")},
	{"get-consistent", false, byKey, large, get(`,"ConsistentRead":true`)},
	{"query-10x100b", true, byPart, func(i int) string { return "{" + sortedKey(i) + hundredBytes + "}" }, query},
	{"query-10x1kb", true, byPart, func(i int) string { return "{" + sortedKey(i) + kilobyte + "}" }, query},
	{"batch-write-25", false, none, nil, batch},
	{"transact-write-4", false, none, nil, transaction},
}

func allNames() []string {
	var all []string
	for _, w := range workloads {
		all = append(all, w.name)
	}
	return all
}

func find(name string) (workload, error) {
	for _, w := range workloads {
		if w.name == name {
			return w, nil
		}
	}
	return workload{}, fmt.Errorf("there is no workload %q, only %v", name, allNames())
}

// matches says whether an answer is what was asked for; spaces outside of strings are free.
func (q request) matches(answer []byte) bool {
	if bytes.Contains(answer, []byte(q.expected)) {
		return true
	}
	return bytes.Contains(bytes.ReplaceAll(answer, []byte(" "), nil), []byte(q.expected))
}
