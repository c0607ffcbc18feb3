"""The rights that a person may have on a target or on the gateway. Each route names the one that it needs at least."""

from enum import StrEnum


class Right(StrEnum):
    ANYBODY = "anybody"  # asks for no right: probes of machines, and what a browser needs before anybody has logged in
    SEE = "see"  # that a target is there, who debugs it, its releases
    DEBUG = "debug"  # enable, attach, extend, resume or end a session of one's own
    FREE = "free"  # resume or end the session of somebody else
    OPERATE = "operate"  # look into clusters and hosts, and at the gateway itself
    READ_TRAIL = "read_trail"  # what everybody did
