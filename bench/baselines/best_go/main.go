// The best idiomatic Go we know, as PERFORMANCE.md section 7 describes it: NextReader into a reused buffer, one
// fastjson parse, levels in reused slices, sync.Pool, a channel per symbol. It does less than a gateway: no journal,
// no session, no health, no router.
package main

import (
	"flag"
	"io"
	"log"
	"runtime"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/valyala/fastjson"
	"github.com/valyala/fastjson/fastfloat"
)

type level struct{ price, size float64 }

// depth is one decoded message; it comes from the pool and goes back with the levels that it replaced.
type depth struct {
	bids, asks []level
	timestamp  int64
}

var pool = sync.Pool{New: func() any { return &depth{bids: make([]level, 0, 32), asks: make([]level, 0, 32)} }}

func side(out []level, rows []*fastjson.Value) []level {
	out = out[:0]
	for _, row := range rows {
		out = append(out, level{number(row.Get("0")), number(row.Get("1"))})
	}
	return out
}

func number(v *fastjson.Value) float64 {
	text, err := v.StringBytes()
	if err != nil {
		return 0
	}
	return fastfloat.ParseBestEffort(string(text)) // the compiler keeps this string on the stack
}

// worker is one symbol: its channel, the levels it holds now, its figures.
type worker struct {
	in                          chan *depth
	now                         *depth
	done                        int
	spread, pressure, imbalance float64
	delay                       time.Duration
	delays                      []int64
}

func total(levels []level, n int) (sum float64) {
	for i := 0; i < n && i < len(levels); i++ {
		sum += levels[i].size
	}
	return sum
}

func (w *worker) run(keep bool, all *sync.WaitGroup) {
	defer all.Done()
	for d := range w.in {
		if w.now != nil {
			pool.Put(w.now)
		}
		w.now = d
		bid, ask := d.bids[0], d.asks[0]
		w.spread = (ask.price - bid.price) / (ask.price + bid.price) * 20_000
		bidSum, askSum := total(d.bids, 5), total(d.asks, 5)
		w.pressure = bidSum / (bidSum + askSum)
		w.imbalance = (bidSum - askSum) / (bidSum + askSum)
		now := time.Now()
		w.delay = now.Sub(time.UnixMilli(d.timestamp))
		w.done++
		if keep {
			w.delays = append(w.delays, now.UnixNano()-sentNs(d.timestamp, bid.size))
		}
	}
}

// message reads one whole message into the buffer, which grows once to the largest.
func message(ws *websocket.Conn, buf []byte) ([]byte, error) {
	_, reader, err := ws.NextReader()
	if err != nil {
		return buf, err
	}
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := reader.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

func pump(ws *websocket.Conn, workers map[string]*worker, frames int) {
	var parser fastjson.Parser
	var err error
	buf := make([]byte, 0, 64<<10)
	for got := 0; got < frames; {
		if buf, err = message(ws, buf); err != nil {
			return
		}
		v, err := parser.ParseBytes(buf)
		if err != nil || string(v.GetStringBytes("cmd")) != "depth" {
			continue
		}
		got++
		data := v.Get("data")
		w, known := workers[string(data.GetStringBytes("symbol"))]
		if !known {
			continue
		}
		d := pool.Get().(*depth)
		d.bids = side(d.bids, data.GetArray("bids"))
		d.asks = side(d.asks, data.GetArray("asks"))
		d.timestamp = data.GetInt64("timestamp")
		w.in <- d
	}
}

func main() {
	url := flag.String("url", "", "where the sender listens")
	frames := flag.Int("frames", 0, "frames to receive before reporting")
	_ = flag.Int("levels", 5, "levels per side in the frames")
	count := flag.Int("symbols", 10, "symbols in the frames")
	keep := flag.Bool("delay", false, "keep every delay from socket to consumer")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	dialer := websocket.Dialer{ReadBufferSize: 64 << 10, WriteBufferSize: 4 << 10}
	ws, _, err := dialer.Dial(*url, nil)
	if err != nil {
		log.Fatal(err)
	}
	names := symbols(*count)
	workers := make(map[string]*worker, len(names))
	var all sync.WaitGroup
	for _, name := range names {
		w := &worker{in: make(chan *depth, 1000)}
		workers[name] = w
		all.Add(1)
		go w.run(*keep, &all)
	}
	command := map[string]any{"cmd": "subscribe", "data": map[string]any{"channel": "depth", "symbols": names}}
	if err := ws.WriteJSON(command); err != nil {
		log.Fatal(err)
	}
	started := begin()
	pump(ws, workers, *frames)
	messages, delays := 0, []int64{}
	for _, w := range workers {
		close(w.in)
	}
	all.Wait()
	for _, w := range workers {
		messages += w.done
		delays = append(delays, w.delays...)
	}
	started.finish(*frames, messages, 0, delays)
	ws.Close()
}
