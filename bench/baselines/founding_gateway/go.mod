module truetape.invalid/bench/founding_gateway

go 1.19

require github.com/gorilla/websocket v1.5.0
