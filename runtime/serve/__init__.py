"""`ghostnote serve`: drum hits over HTTP and WebSocket (extra `serve`). The protocol is written down in docs/serve.md."""
