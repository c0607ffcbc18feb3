"""Whose socket it is that is connected to ours, on real sockets."""

import os
import socket
from contextlib import closing

import pytest

from noah.access.local_users import LocalUsers
from noah.core.session.principal import OPERATORS
from noah.errors import BadSettings
from noah.proxy.local_peer import NOBODY, uid_of_peer


@pytest.mark.parametrize(
    ("family", "listen", "connect"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
        (socket.AF_INET6, "::", "::1"),
    ],
)
def test_the_uid_of_the_other_end_is_found(family: socket.AddressFamily, listen: str, connect: str) -> None:
    with closing(socket.socket(family)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind((listen, 0))
        server.listen()
        with closing(socket.create_connection((connect, server.getsockname()[1]))):
            accepted, peer = server.accept()
            with closing(accepted):
                own = accepted.getsockname()
                assert uid_of_peer(peer[:2], own[:2]) == os.getuid()
                assert uid_of_peer((peer[0], peer[1] ^ 1), own[:2]) == NOBODY
                assert uid_of_peer(peer[:2], (own[0], own[1] ^ 1)) == NOBODY


def test_a_socket_that_was_closed_behind_its_request_is_nobodys() -> None:
    """The kernel writes root for it, whichever user had it: so would another user of the machine be taken for root."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        client = socket.create_connection(server.getsockname())
        accepted, peer = server.accept()
        with closing(accepted):
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            client.close()
            assert accepted.recv(100)
            assert uid_of_peer(peer, accepted.getsockname()) == NOBODY


def test_only_its_own_user_and_those_that_are_named_may_use_a_gateway() -> None:
    mine, other = os.getuid(), os.getuid() + 4242
    own = LocalUsers(()).principal(mine)
    assert own is not None
    assert own.groups == {OPERATORS}
    assert LocalUsers(()).principal(other) is None
    named = LocalUsers([str(other)]).principal(other)
    assert named is not None
    assert (named.subject, named.groups) == (f"uid-{other}", frozenset())
    with pytest.raises(BadSettings, match="no user 'nobody-at-all'"):
        LocalUsers(["nobody-at-all"])
