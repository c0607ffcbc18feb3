"""The gateway's HTTP API as a client sees it: light to import, nothing of the server."""
