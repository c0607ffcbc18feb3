"""aiohttp: the HTTP API, its event stream and the pages."""
