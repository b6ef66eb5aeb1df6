// Reads histories, one JSON object a line, and prints the names of those that are not
// linearizable: no order of the operations explains what their clients heard.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

type operation struct {
	Client   int     `json:"client"`
	Kind     string  `json:"kind"`
	Value    int     `json:"value"`
	Expect   int     `json:"expect"`
	Call     float64 `json:"call"`
	Answered float64 `json:"answered"`
	Done     int     `json:"done"`
}

type history struct {
	Name       string      `json:"name"`
	Operations []operation `json:"operations"`
}

const never = 1e17

// One item: a number, 0 where there is none. An operation that nobody knows the outcome of may
// have happened at any time after it was asked, also after everything else.
var model = porcupine.Model{
	Init: func() interface{} { return 0 },
	Step: func(state, input, output interface{}) (bool, interface{}) {
		now, asked := state.(int), input.(operation)
		unknown := asked.Answered > never
		switch asked.Kind {
		case "get":
			return unknown || asked.Done == now, now
		case "put":
			return true, asked.Value
		default:
			holds := now == asked.Expect
			if !unknown && holds != (asked.Done == 1) {
				return false, now
			}
			if holds {
				return true, asked.Value
			}
			return true, now
		}
	},
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<26)
	wrong := 0
	for lines.Scan() {
		var found history
		if err := json.Unmarshal(lines.Bytes(), &found); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		var operations []porcupine.Operation
		for _, each := range found.Operations {
			operations = append(operations, porcupine.Operation{
				ClientId: each.Client,
				Input:    each,
				Call:     int64(each.Call * 1e6),
				Return:   int64(min(each.Answered, 1e12) * 1e6),
			})
		}
		switch porcupine.CheckOperationsTimeout(model, operations, 30*time.Second) {
		case porcupine.Illegal:
			fmt.Println(found.Name)
			wrong++
		case porcupine.Unknown:
			fmt.Println(found.Name, "(too long to tell)")
			wrong++
		}
	}
	if wrong > 0 {
		os.Exit(1)
	}
}
