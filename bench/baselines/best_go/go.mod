module truetape.invalid/bench/best_go

go 1.19

require (
	github.com/gorilla/websocket v1.5.0
	github.com/valyala/fastjson v1.6.3
)
