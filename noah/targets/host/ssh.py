"""One kept SSH connection per host: commands, and channels to the host's own loopback.

Rules that must stay true:
 - The host's key is the one that the configuration pins. Nothing is asked of, or sent to, a host that shows another.
 - One attempt to connect at a time and host, however many wait for it: sshd drops what exceeds MaxStartups, and a
   host that hangs is waited for once.
 - An sshd that is full (MaxStartups, MaxSessions) is asked again for some seconds: most of what fills it is over soon.
 - A host costs nobody but those who want that host: every wait here has a deadline, and nothing is shared with others.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import asyncssh

from noah.backoff import Backoff
from noah.errors import BadSettings, CannotDebug, Unavailable
from noah.settings import Host
from noah.targets.host.channel import ChannelTransport
from noah.targets.host.ran import Ran, TookTooLong
from noah.targets.host.ssh_command import Running

CONNECTS_WITHIN = 5.0  # seconds, key exchange and login included
COMMANDS = 8  # at once per host, two fewer than sshd's own limit (MaxSessions 10): it refuses what exceeds that
KEEPALIVE, KEEPALIVES_MISSED = 5.0, 3  # seconds; a host that is gone without a word is noticed within 20
OPENS_WITHIN = 10.0  # seconds, for a command to begin
FULL_FOR = 5.0  # seconds
FIRST_PAUSE = 0.2  # seconds, before an sshd that is full is asked again
ENDS_WITHIN = 1.0  # seconds; a daemon that a command left behind holds its output open


class Ssh:
    def __init__(self, host: Host, *, changed: Callable[[], None] = lambda: None) -> None:
        """*changed* is called when is_connected or is_away may have changed."""
        self.host = host
        self._changed = changed
        self.is_away = False  # the last attempt to connect failed
        self._known = pinned(host)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._connecting = asyncio.Lock()
        self._commands = asyncio.Semaphore(COMMANDS)
        self._watchers: set[Callable[[], None]] = set()

    def __repr__(self) -> str:
        return f"<{self.host.name} {'connected' if self.is_connected else 'not connected'}>"

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    def watch(self, lost: Callable[[], None]) -> Callable[[], None]:
        """Call *lost* whenever the connection ends, until the function that is returned is called."""
        self._watchers.add(lost)
        return lambda: self._watchers.discard(lost)

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float,
        line: Callable[[str], None] | None = None,
    ) -> Ran:
        """Run a command; *line* gets each line of output as it comes. Unavailable if it is unknown how it ended."""
        command = shlex.join([*self.host.become, *argv])
        running = Running(line)
        async with self._translated("a command there", timeout), self._commands:
            try:
                await self._begin(running, command)
                running.say(stdin)
                await running.exited.wait()
                with suppress(TimeoutError):
                    async with asyncio.timeout(ENDS_WITHIN):
                        await running.over.wait()
            finally:
                running.abort()
        if running.lost or not running.has_status:
            raise Unavailable(f"The connection to host {self.host.name} broke off while a command ran there.")
        return running.ran

    async def dial(self, factory: Callable[[], asyncio.BufferedProtocol], port: int) -> asyncio.Transport:
        """Open a channel to 127.0.0.1:*port* of the host. ConnectionRefusedError as from a socket."""
        async with self._translated(f"its port {port}", CONNECTS_WITHIN * 2):
            connection = await self._connected()
            try:
                _, transport = await connection.create_connection(
                    lambda: ChannelTransport(factory()), "127.0.0.1", port
                )
            except asyncssh.ChannelOpenError as e:
                if e.code == asyncssh.OPEN_CONNECT_FAILED and self.is_connected:
                    raise ConnectionRefusedError(e.reason) from None
                raise
        assert isinstance(transport, ChannelTransport)
        return transport

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    # -- inside

    async def _begin(self, running: Running, command: str) -> None:
        until, backoff = asyncio.get_running_loop().time() + FULL_FOR, Backoff(first_s=FIRST_PAUSE, longest_s=FULL_FOR)
        while True:
            connection = await self._connected()
            try:
                async with asyncio.timeout(OPENS_WITHIN):
                    await connection.create_session(lambda: running, command, encoding=None)
                return
            except TimeoutError:
                # A session that opened later would be nobody's, and one of the few that sshd gives this connection.
                connection.abort()
                raise Unavailable(f"{self._where} stands still: it began no command in {OPENS_WITHIN:.0f} s.") from None
            except asyncssh.ChannelOpenError:
                if connection.is_closed():
                    raise Unavailable(f"{self._where} broke the connection off.") from None
                if asyncio.get_running_loop().time() > until:
                    raise Unavailable(
                        f"{self._where} lets no command begin: its sshd is full (MaxSessions in its sshd_config; "
                        f"{COMMANDS} is enough)."
                    ) from None
            await asyncio.sleep(backoff.next_s())

    async def _connected(self) -> asyncssh.SSHClientConnection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        async with self._connecting:
            if self._connection is not None and not self._connection.is_closed():
                return self._connection
            self._connection = None
            try:
                self._connection = await self._let_in()
            finally:
                self.is_away = self._connection is None
                self._changed()
            return self._connection

    async def _let_in(self) -> asyncssh.SSHClientConnection:
        why, backoff = "does not answer within", Backoff(first_s=FIRST_PAUSE, longest_s=CONNECTS_WITHIN)
        try:
            async with asyncio.timeout(CONNECTS_WITHIN):
                while True:
                    with suppress(asyncssh.ConnectionLost, ConnectionResetError):
                        return await self._connect()
                    why = (
                        "hangs up before the login: its sshd is full (MaxStartups), or refuses this machine; asked for"
                    )
                    await asyncio.sleep(backoff.next_s())
        except TimeoutError:
            raise Unavailable(f"{self._where} {why} {CONNECTS_WITHIN:.0f} s.") from None

    async def _connect(self) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            self.host.address,
            self.host.port,
            username=self.host.user,
            client_keys=[str(self.host.key)],
            known_hosts=self._known,
            client_factory=lambda: _Client(self._lost),
            # Nothing of the gateway user's own ~/.ssh and agent: the configuration says it all.
            config=None,
            agent_path=None,
            gss_host=None,
            preferred_auth="publickey",
            keepalive_interval=KEEPALIVE,
            keepalive_count_max=KEEPALIVES_MISSED,
            compression_algs=None,
        )

    @property
    def _where(self) -> str:
        return f"Host {self.host.name} ({self.host.address}:{self.host.port})"

    def _lost(self) -> None:
        self._connection = None
        self._changed()
        for lost in list(self._watchers):
            lost()

    @asynccontextmanager
    async def _translated(self, what: str, timeout: float) -> AsyncIterator[None]:
        host, where = self.host, self._where
        try:
            async with asyncio.timeout(timeout):
                yield
        except asyncssh.HostKeyNotVerifiable:
            raise CannotDebug(
                f"{where} shows another host key than the pinned one: if the machine was set up again, compare "
                f"`ssh-keyscan -p {host.port} {host.address}` with its /etc/ssh/ssh_host_*_key.pub and put that "
                "into host_key; otherwise somebody is in between."
            ) from None
        except asyncssh.PermissionDenied:
            raise CannotDebug(
                f"{where} does not let {host.user} in with the key {host.key}: is its public half in "
                f"~{host.user}/.ssh/authorized_keys there?"
            ) from None
        except asyncssh.ChannelOpenError as e:
            if e.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
                raise CannotDebug(f"{where} forbids forwarding: its sshd needs AllowTcpForwarding local.") from None
            raise Unavailable(f"{where} opens no channel: {_said(e)}.") from None
        except TimeoutError:
            raise TookTooLong(f"{where} does not answer: {what} took longer than {timeout:.0f} s.") from None
        except asyncssh.Error as e:
            raise Unavailable(f"{where} broke the connection off: {_said(e)}.") from None
        except ConnectionRefusedError as e:
            if self.is_connected:
                raise
            raise Unavailable(f"{where} refuses SSH connections: is its sshd running? ({e.strerror})") from None
        except OSError as e:
            raise Unavailable(f"{where} is not reached: {e.strerror or e}.") from None


class _Client(asyncssh.SSHClient):
    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()


def pinned(host: Host) -> tuple[Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey]]:
    """Return the host's key as asyncssh takes known hosts. Raises BadSettings if it is not a key."""
    try:
        return [asyncssh.import_public_key(host.host_key)], [], []
    except asyncssh.KeyImportError:
        raise BadSettings(
            f"hosts: the host_key of {host.name!r} is not a public key: write it as in the host's "
            "/etc/ssh/ssh_host_ed25519_key.pub, `ssh-ed25519 AAAA...`."
        ) from None


def _said(error: asyncssh.Error) -> str:
    return (error.reason or type(error).__name__).rstrip(".")
