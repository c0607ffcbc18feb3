"""The laptop's side of `noah connect`: a local port for each session, and the line from there to the gateway.

It imports the client and core only, and nothing in it needs POSIX.
"""
