"""`ghostnote serve`: drum hits over HTTP and WebSocket (extra `serve`); the protocol is in docs/serve.md."""
