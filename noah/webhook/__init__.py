"""The admission webhook: its TLS server and its certificates."""
