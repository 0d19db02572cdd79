package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// account measures the process's own CPU and the wall time since the subscription was sent.
type account struct {
	cpu  float64
	wall time.Time
}

func cpuSeconds() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	sec := used.Utime.Sec + used.Stime.Sec
	usec := used.Utime.Usec + used.Stime.Usec
	return float64(sec) + float64(usec)/1e6
}

func begin() account { return account{cpuSeconds(), time.Now()} }

// finish prints the one line that bench/report.py prints too.
func (a account) finish(frames, messages, dropped int, delays []int64) {
	cpu := cpuSeconds() - a.cpu
	line, _ := json.Marshal(map[string]any{
		"messages":      messages,
		"lost":          frames - messages,
		"dropped":       dropped,
		"cpu_s":         cpu,
		"seconds":       time.Since(a.wall).Seconds(),
		"msg_per_cpu_s": int64(float64(messages) / cpu),
		"delay_us":      percentiles(delays),
		"rss_mb":        peakRSS(),
	})
	fmt.Println(string(line))
}

func percentiles(delays []int64) map[string]float64 {
	if len(delays) == 0 {
		return nil
	}
	sort.Slice(delays, func(i, j int) bool { return delays[i] < delays[j] })
	at := func(rank float64) float64 {
		i := int(rank * float64(len(delays)))
		if i >= len(delays) {
			i = len(delays) - 1
		}
		return float64(delays[i]) / 1000
	}
	return map[string]float64{"p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": at(1)}
}

func peakRSS() float64 {
	text, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "VmHWM:") {
			kb, _ := strconv.ParseFloat(strings.Fields(line)[1], 64)
			return kb / 1024
		}
	}
	return 0
}

// sentNs puts the two stamps of a frame together: see bench/frames.py.
func sentNs(ms int64, bestBidSize float64) int64 {
	return ms/1000*1_000_000_000 + int64(bestBidSize*1e9+0.5) - 1_000_000_000
}

func symbols(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("T%04dUSDT", i)
	}
	return names
}
