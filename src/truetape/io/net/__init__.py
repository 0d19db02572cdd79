"""Sockets: WebSocket and HTTP clients and servers."""
