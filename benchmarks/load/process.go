package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const ticksPerSecond = 100 // USER_HZ, the same on every Linux that Go supports

// family returns the process and all that descend from it.
func family(root int) []int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			if fields := stat(pid); fields != nil {
				parent, _ := strconv.Atoi(fields[1])
				children[parent] = append(children[parent], pid)
			}
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// stat returns /proc/PID/stat from the state on: the name before it may contain anything.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// cpuSeconds is what the process and its descendants have used so far, each.
func cpuSeconds(root int) []float64 {
	var seconds []float64
	for _, pid := range family(root) {
		ticks := 0
		if fields := stat(pid); fields != nil {
			user, _ := strconv.Atoi(fields[11])
			system, _ := strconv.Atoi(fields[12])
			ticks = user + system
		}
		seconds = append(seconds, float64(ticks)/ticksPerSecond)
	}
	return seconds
}

// peakMB sums the peak resident memory of the process and its descendants.
func peakMB(root int) float64 {
	kilobytes := 0
	for _, pid := range family(root) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for _, line := range strings.Split(string(text), "\n") {
			if value, found := strings.CutPrefix(line, "VmHWM:"); found {
				n, _ := strconv.Atoi(strings.Fields(value)[0])
				kilobytes += n
			}
		}
	}
	return float64(kilobytes) / 1024
}
