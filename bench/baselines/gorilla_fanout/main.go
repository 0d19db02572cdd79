// Fan-out with gorilla/websocket, as Go services usually do it: a hub, a buffered channel and a writing goroutine per client, a
// non-blocking send into the channel (who is slower loses the message), and gorilla's prepared message, framed once for all.
// Prints its port, waits for one order on stdin, publishes at a rate, prints its own CPU seconds.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

const queue = 256

type order struct {
	Messages int     `json:"messages"`
	Rate     float64 `json:"rate"`
	Text     string  `json:"text"`
}

type hub struct {
	mu      sync.Mutex
	clients map[chan *websocket.PreparedMessage]struct{}
}

func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	waiting := make(chan *websocket.PreparedMessage, queue)
	h.mu.Lock()
	h.clients[waiting] = struct{}{}
	h.mu.Unlock()
	go func() {
		for message := range waiting {
			if conn.WritePreparedMessage(message) != nil {
				return
			}
		}
	}()
	// The clients of the bench wait for a first message before they count as ready.
	hello, _ := websocket.NewPreparedMessage(websocket.TextMessage, []byte(`{"type":"hello"}`))
	waiting <- hello
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			return
		}
	}
}

func (h *hub) publish(text string) (dropped int) {
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, []byte(text))
	if err != nil {
		log.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for waiting := range h.clients {
		select {
		case waiting <- message:
		default:
			dropped++
		}
	}
	return dropped
}

func cpuSeconds() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		log.Fatal(err)
	}
	return float64(used.Utime.Sec+used.Stime.Sec) + float64(used.Utime.Usec+used.Stime.Usec)/1e6
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	h := &hub{clients: map[chan *websocket.PreparedMessage]struct{}{}}
	go func() { log.Fatal(http.Serve(listener, http.HandlerFunc(h.serve))) }()
	fmt.Printf("{\"port\":%d}\n", listener.Addr().(*net.TCPAddr).Port)

	line, err := bufio.NewReader(os.Stdin).ReadBytes('\n')
	if err != nil {
		log.Fatal(err)
	}
	var do order
	if err := json.Unmarshal(line, &do); err != nil {
		log.Fatal(err)
	}
	before, due, dropped := cpuSeconds(), time.Now(), 0
	for i := 0; i < do.Messages; i++ {
		dropped += h.publish(do.Text)
		due = due.Add(time.Duration(float64(time.Second) / do.Rate))
		time.Sleep(time.Until(due))
	}
	time.Sleep(100 * time.Millisecond)
	fmt.Printf("{\"cpu_s\":%g,\"dropped\":%d}\n", cpuSeconds()-before, dropped)
	select {} // until the bench has counted and ends it
}
