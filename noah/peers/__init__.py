"""Gateway to gateway: what came to another gateway than the session's own is passed on to that one.

Each gateway has a key of its own, made when it starts and kept in memory, and publishes the certificate with its row
among the gateways. Both sides of a connection show theirs, and accept exactly those of rows whose lease lasts. So
who may write these rows is trusted, and nothing else: not an authority, not a name, not an address.
"""
