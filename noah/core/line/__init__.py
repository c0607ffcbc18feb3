"""The line between a laptop and the gateway: byte streams that go on, byte for byte, on another connection.

Nothing here does any I/O: both ends of a line are a `Line`, which is given the messages that came and is asked for the
ones to send.
"""
