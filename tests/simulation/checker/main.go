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

// What a client asked and heard. Items have numbers, and numbers as values, 0 where there is none.
type operation struct {
	Client   int      `json:"client"`
	Needs    [][2]int `json:"needs"`  // item and value: what had to hold for anything to be written
	Writes   [][2]int `json:"writes"` // item and value
	Saw      [][2]int `json:"saw"`    // item and value
	Done     bool     `json:"done"`   // whether what it needs held
	Call     float64  `json:"call"`
	Answered float64  `json:"answered"`
}

type history struct {
	Name       string      `json:"name"`
	Operations []operation `json:"operations"`
}

const never = 1e17

type items [8]int

// An operation that nobody knows the outcome of may have happened at any time after it was asked,
// also after everything else.
var model = porcupine.Model{
	Init: func() interface{} { return items{} },
	Step: func(state, input, output interface{}) (bool, interface{}) {
		now, asked := state.(items), input.(operation)
		known := asked.Answered < never
		holds := true
		for _, need := range asked.Needs {
			holds = holds && now[need[0]] == need[1]
		}
		if known {
			if holds != asked.Done {
				return false, now
			}
			for _, saw := range asked.Saw {
				if now[saw[0]] != saw[1] {
					return false, now
				}
			}
		}
		if holds {
			for _, write := range asked.Writes {
				now[write[0]] = write[1]
			}
		}
		return true, now
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
