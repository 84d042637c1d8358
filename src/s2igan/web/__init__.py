"""The page in a browser, and the same as an HTTP API (the extra `web`): `serve` runs it, `app` answers requests."""
