"""The RFC 6455 suite against our server and our client; see `run`."""
