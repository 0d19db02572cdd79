// The founding Go gateway, as PERFORMANCE.md section 7 describes it: gorilla's ReadMessage, encoding/json twice,
// a non-blocking send into a channel of 1,000 per symbol, one goroutine per symbol, two maps under an RWMutex.
// No improvement is made on purpose. Messages are counted where they are processed; what a full channel refused is
// "dropped".
package main

import (
	"encoding/json"
	"flag"
	"log"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

type envelope struct {
	Type    string `json:"type"`
	Cmd     string `json:"cmd"`
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    struct {
		Symbol string `json:"symbol"`
	} `json:"data"`
}

type depthMessage struct {
	Cmd  string `json:"cmd"`
	Data struct {
		Symbol    string      `json:"symbol"`
		Bids      [][2]string `json:"bids"`
		Asks      [][2]string `json:"asks"`
		Timestamp int64       `json:"timestamp"`
	} `json:"data"`
}

type book struct {
	mu   sync.RWMutex
	bids map[float64]float64
	asks map[float64]float64
}

func side(levels [][2]string) map[float64]float64 {
	out := make(map[float64]float64, len(levels))
	for _, level := range levels {
		price, _ := strconv.ParseFloat(level[0], 64)
		size, _ := strconv.ParseFloat(level[1], 64)
		out[price] = size
	}
	return out
}

func (b *book) replace(m *depthMessage) {
	bids, asks := side(m.Data.Bids), side(m.Data.Asks)
	b.mu.Lock()
	b.bids, b.asks = bids, asks
	b.mu.Unlock()
}

func (b *book) spread() float64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	bestBid, bestAsk := 0.0, 0.0
	for price := range b.bids {
		if price > bestBid {
			bestBid = price
		}
	}
	for price := range b.asks {
		if bestAsk == 0 || price < bestAsk {
			bestAsk = price
		}
	}
	return (bestAsk - bestBid) / (bestAsk + bestBid) * 20_000
}

func (b *book) sums(n int) (bidSum, askSum float64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	bids := make([]float64, 0, len(b.bids))
	for price := range b.bids {
		bids = append(bids, price)
	}
	asks := make([]float64, 0, len(b.asks))
	for price := range b.asks {
		asks = append(asks, price)
	}
	sort.Float64s(bids)
	sort.Float64s(asks)
	for i := 0; i < n && i < len(bids); i++ {
		bidSum += b.bids[bids[len(bids)-1-i]]
	}
	for i := 0; i < n && i < len(asks); i++ {
		askSum += b.asks[asks[i]]
	}
	return bidSum, askSum
}

// worker is one symbol: its channel, its book, its figures.
type worker struct {
	in                          chan []byte
	book                        book
	done                        int
	spread, pressure, imbalance float64
	delay                       time.Duration
	delays                      []int64
}

func (w *worker) run(keep bool, all *sync.WaitGroup) {
	defer all.Done()
	for data := range w.in {
		var m depthMessage
		if err := json.Unmarshal(data, &m); err != nil {
			continue
		}
		w.book.replace(&m)
		w.spread = w.book.spread()
		bidSum, askSum := w.book.sums(5)
		w.pressure = bidSum / (bidSum + askSum)
		w.imbalance = (bidSum - askSum) / (bidSum + askSum)
		w.delay = time.Since(time.UnixMilli(m.Data.Timestamp))
		w.done++
		if keep {
			size, _ := strconv.ParseFloat(m.Data.Bids[0][1], 64)
			w.delays = append(w.delays, time.Now().UnixNano()-sentNs(m.Data.Timestamp, size))
		}
	}
}

// pump reads until every frame came or the connection ends; what a full channel refuses is dropped.
func pump(ws *websocket.Conn, workers map[string]*worker, frames int) (dropped int) {
	for got := 0; got < frames; {
		_, data, err := ws.ReadMessage()
		if err != nil {
			return dropped
		}
		var e envelope
		if err := json.Unmarshal(data, &e); err != nil || e.Cmd != "depth" {
			continue
		}
		got++
		w, known := workers[e.Data.Symbol]
		if !known {
			continue
		}
		select {
		case w.in <- data:
		default:
			dropped++
		}
	}
	return dropped
}

func main() {
	url := flag.String("url", "", "where the sender listens")
	frames := flag.Int("frames", 0, "frames to receive before reporting")
	_ = flag.Int("levels", 5, "levels per side in the frames")
	count := flag.Int("symbols", 10, "symbols in the frames")
	keep := flag.Bool("delay", false, "keep every delay from socket to consumer")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	ws, _, err := websocket.DefaultDialer.Dial(*url, nil)
	if err != nil {
		log.Fatal(err)
	}
	names := symbols(*count)
	workers := make(map[string]*worker, len(names))
	var all sync.WaitGroup
	for _, name := range names {
		w := &worker{in: make(chan []byte, 1000)}
		workers[name] = w
		all.Add(1)
		go w.run(*keep, &all)
	}
	command := map[string]any{"cmd": "subscribe", "data": map[string]any{"channel": "depth", "symbols": names}}
	if err := ws.WriteJSON(command); err != nil {
		log.Fatal(err)
	}
	started := begin()
	dropped := pump(ws, workers, *frames)
	messages, delays := 0, []int64{}
	for _, w := range workers {
		close(w.in)
	}
	all.Wait()
	for _, w := range workers {
		messages += w.done
		delays = append(delays, w.delays...)
	}
	started.finish(*frames, messages, dropped, delays)
	ws.Close()
}
