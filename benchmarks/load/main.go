// load measures a server that speaks DynamoDB's protocol.
//
// Each connection is a closed loop: it signs a request, sends it, checks the answer, and goes on.
// One JSON line a measurement on standard output; progress and trouble on standard error.
//
//	load -address 127.0.0.1:8000 -pid 4711 -workloads put,get -connections 1,16,64
//	load -null 127.0.0.1:9999     a server that says {} to everything: the generator's own ceiling
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type measurement struct {
	Workload    string  `json:"workload"`
	Connections int     `json:"connections"`
	OpsPerS     float64 `json:"ops_per_s"`
	P50Ms       float64 `json:"p50_ms"`
	P99Ms       float64 `json:"p99_ms"`
	MaxMs       float64 `json:"max_ms"`
	Errors      int     `json:"errors"`
	FirstError  string  `json:"first_error,omitempty"`
	CPUPercent  float64 `json:"server_cpu_percent"`
	// Of each of the server's processes: the one that was started, then those that descend from it.
	CPUPercents []float64 `json:"server_cpu_percents"`
	PeakMB      float64   `json:"server_peak_mb"`
	Skipped     string    `json:"skipped,omitempty"`
}

type bench struct {
	address      string
	keys         credentials
	pid          int
	scale        scale
	warm, window time.Duration
	next         atomic.Int64
}

func main() {
	address := flag.String("address", "127.0.0.1:8000", "host:port of the server")
	pid := flag.Int("pid", 0, "the server's process, for CPU and memory; its descendants count too")
	names := flag.String("workloads", "", "comma-separated; all of them when empty")
	connections := flag.String("connections", "1,16,64", "comma-separated")
	window := flag.Duration("window", 10*time.Second, "measured time of each measurement")
	warm := flag.Duration("warm", 2*time.Second, "time before it that does not count")
	keys := flag.Int("keys", 10000, "items and counters stored before the reads and updates")
	partitions := flag.Int("partitions", 1000, "partitions of ten items stored before the queries")
	region := flag.String("region", "us-east-1", "region in the signature")
	null := flag.String("null", "", "answer {} to every request on this address instead")
	flag.Parse()
	if *null != "" {
		fail(serveNull(*null))
	}
	b := &bench{
		address: *address,
		keys:    credentials{"streamtable", "streamtable", *region},
		pid:     *pid,
		scale:   scale{*keys, *partitions},
		warm:    *warm,
		window:  *window,
	}
	if *names == "" {
		*names = strings.Join(allNames(), ",")
	}
	out := json.NewEncoder(os.Stdout)
	for _, name := range strings.Split(*names, ",") {
		w, err := find(name)
		fail(err)
		table := "bench-" + w.name
		skipped := b.prepare(w, table)
		for _, text := range strings.Split(*connections, ",") {
			count, err := strconv.Atoi(text)
			fail(err)
			if skipped != "" {
				fail(out.Encode(measurement{Workload: w.name, Connections: count, Skipped: skipped}))
				continue
			}
			fail(out.Encode(b.measure(w, table, count)))
		}
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// prepare makes the table and what is stored in it; it returns why the workload can't run, or "".
func (b *bench) prepare(w workload, table string) string {
	c := newClient(b.address, b.keys)
	defer c.close()
	attributes, schema := `{"AttributeName":"id","AttributeType":"S"}`, `{"AttributeName":"id","KeyType":"HASH"}`
	if w.sorted {
		attributes += `,{"AttributeName":"at","AttributeType":"S"}`
		schema += `,{"AttributeName":"at","KeyType":"RANGE"}`
	}
	status, answer, err := c.call("CreateTable", `{"TableName":"`+table+`","AttributeDefinitions":[`+
		attributes+`],"KeySchema":[`+schema+`],"BillingMode":"PAY_PER_REQUEST"}`)
	fail(err)
	if status != 200 {
		fail(fmt.Errorf("CreateTable: %d %s", status, answer))
	}
	for tries := 0; !strings.Contains(string(answer), "ACTIVE"); tries++ {
		if tries == 600 {
			fail(fmt.Errorf("table %s does not become ACTIVE: %s", table, answer))
		}
		time.Sleep(50 * time.Millisecond)
		_, answer, err = c.call("DescribeTable", `{"TableName":"`+table+`"}`)
		fail(err)
	}
	total := w.items(b.scale)
	for first := 0; first < total; first += 25 {
		var items []string
		for i := first; i < min(first+25, total); i++ {
			items = append(items, w.item(i))
		}
		q := batchOf(table, items)
		status, answer, err := c.call(q.operation, q.body)
		fail(err)
		if status != 200 || !q.matches(answer) {
			fail(fmt.Errorf("storing items: %d %s", status, answer))
		}
	}
	q := w.request(table, b.scale, rand.New(rand.NewSource(1)), &b.next)
	status, answer, err = c.call(q.operation, q.body)
	fail(err)
	if status != 200 {
		return fmt.Sprintf("%d %s", status, shorten(answer))
	}
	return ""
}

// measure runs one workload on so many connections.
func (b *bench) measure(w workload, table string, connections int) measurement {
	m := measurement{Workload: w.name, Connections: connections}
	start := time.Now()
	from, until := start.Add(b.warm), start.Add(b.warm+b.window)
	var lock sync.Mutex
	var all []time.Duration
	var done sync.WaitGroup
	for n := 0; n < connections; n++ {
		done.Add(1)
		go func(seed int64) {
			defer done.Done()
			c := newClient(b.address, b.keys)
			defer c.close()
			r := rand.New(rand.NewSource(seed))
			latencies := make([]time.Duration, 0, 1<<16)
			errors, firstError := 0, ""
			for time.Now().Before(until) {
				q := w.request(table, b.scale, r, &b.next)
				sent := time.Now()
				status, answer, err := c.call(q.operation, q.body)
				took := time.Since(sent)
				if sent.Before(from) || sent.Add(took).After(until) {
					continue
				}
				if err == nil && status == 200 && q.matches(answer) {
					latencies = append(latencies, took)
					continue
				}
				if errors++; firstError == "" {
					firstError = fmt.Sprintf("%d %v %s", status, err, shorten(answer))
				}
			}
			lock.Lock()
			defer lock.Unlock()
			all = append(all, latencies...)
			m.Errors += errors
			if m.FirstError == "" {
				m.FirstError = firstError
			}
		}(int64(n))
	}
	time.Sleep(time.Until(from))
	before := cpuSeconds(b.pid)
	time.Sleep(time.Until(until))
	for i, seconds := range cpuSeconds(b.pid) {
		if i < len(before) {
			seconds -= before[i]
		}
		percent := seconds / b.window.Seconds() * 100
		m.CPUPercents = append(m.CPUPercents, percent)
		m.CPUPercent += percent
	}
	m.PeakMB = peakMB(b.pid)
	done.Wait()

	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	m.OpsPerS = float64(len(all)) / b.window.Seconds()
	if len(all) > 0 {
		at := func(share float64) float64 {
			return float64(all[int(share*float64(len(all)-1))].Microseconds()) / 1000
		}
		m.P50Ms, m.P99Ms, m.MaxMs = at(0.5), at(0.99), at(1)
	}
	return m
}

func shorten(answer []byte) string {
	return string(answer[:min(len(answer), 200)])
}

// serveNull answers every request with the least that a write's check accepts.
func serveNull(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	const body = `{"TableDescription":{"TableStatus":"ACTIVE"},"UnprocessedItems":{},"":{}}`
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			for reader := bufio.NewReader(conn); ; {
				request, err := http.ReadRequest(reader)
				if err != nil {
					return
				}
				if _, err := io.Copy(io.Discard, request.Body); err != nil {
					return
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}
