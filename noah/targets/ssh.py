"""One kept SSH connection per host: commands, and channels to the host's own loopback.

Rules that must stay true:
 - The host's key is the one that the configuration pins. Nothing is asked of, or sent to, a host that shows another.
 - One attempt to connect at a time and host, whoever waits for it: sshd drops what exceeds MaxStartups, and a host that
   hangs is waited for once.
 - A host costs nobody but those who want that host: every wait here has a deadline, and nothing is shared with others.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncssh

from noah.errors import BadSettings, CannotDebug, Unavailable
from noah.settings import Host
from noah.targets.channel import ChannelTransport

CONNECTS_WITHIN = 5.0  # seconds, key exchange and login included
COMMANDS = 8  # at once per host, two fewer than sshd's own limit (MaxSessions 10): it refuses what exceeds that
KEEPALIVE, KEEPALIVES_MISSED = 5.0, 3  # seconds; a host that is gone without a word is noticed within 20
OUTPUT_LIMIT = 256 * 1024  # bytes
ENDS_WITHIN = 1.0  # seconds; a daemon that a command left behind holds its output open


class TookTooLong(Unavailable):
    """The host did not answer in time; its connection may be well."""


@dataclass(frozen=True, slots=True)
class Ran:
    code: int | None  # None: it was ended by a signal
    stdout: bytes
    stderr: bytes

    @property
    def said(self) -> str:
        """Its last line, for a sentence."""
        lines = (self.stderr.strip() or self.stdout.strip()).decode("utf-8", "replace").splitlines()
        return lines[-1][:300] if lines else "it said nothing"


class Ssh:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.is_away = False  # the last attempt to connect failed
        self._known = _pinned(host)
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
        """*lost* is called when the connection ends; what is given back stops that."""
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
        """*line* is given each line of output as it comes. Unavailable when it is not known how the command ended."""
        command = shlex.join([*self.host.become, *argv])
        async with self._translated("a command there", timeout), self._commands:
            connection = await self._connected()
            running = _Running(line)
            channel, _ = await connection.create_session(lambda: running, command, encoding=None)
            try:
                channel.write(stdin)
                channel.write_eof()
                await running.exited.wait()
                with suppress(TimeoutError):
                    async with asyncio.timeout(ENDS_WITHIN):
                        await running.over.wait()
            finally:
                channel.abort()
        if running.lost or not running.has_status:
            raise Unavailable(f"The connection to host {self.host.name} broke off while a command ran there.")
        return Ran(running.code, bytes(running.output[None]), bytes(running.output[asyncssh.EXTENDED_DATA_STDERR]))

    async def dial(self, factory: Callable[[], asyncio.BufferedProtocol], port: int) -> asyncio.Transport:
        """A channel to 127.0.0.1:*port* of the host. ConnectionRefusedError as from a socket."""
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

    async def _connected(self) -> asyncssh.SSHClientConnection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        async with self._connecting:
            if self._connection is not None and not self._connection.is_closed():
                return self._connection
            self._connection = None
            try:
                async with asyncio.timeout(CONNECTS_WITHIN):
                    self._connection = await self._connect()
            except TimeoutError:
                raise Unavailable(f"{self._where} does not answer within {CONNECTS_WITHIN:.0f} s.") from None
            finally:
                self.is_away = self._connection is None
            return self._connection

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
                f"{where} shows another host key than the pinned one: if the machine was set up anew, compare "
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


class _Running(asyncssh.SSHClientSession[bytes]):
    """A command: its output, bounded, and when it has exited, which may be before its output ends."""

    def __init__(self, line: Callable[[str], None] | None) -> None:
        self.output: dict[int | None, bytearray] = {None: bytearray(), asyncssh.EXTENDED_DATA_STDERR: bytearray()}
        self.code: int | None = None
        self.has_status = False
        self.lost = False
        self.exited, self.over = asyncio.Event(), asyncio.Event()
        self._line = line
        self._rest = b""

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        kept = self.output[datatype]
        kept += data[: OUTPUT_LIMIT - len(kept)]
        if self._line is not None:
            *lines, self._rest = (self._rest + data)[-OUTPUT_LIMIT:].split(b"\n")
            for text in lines:
                self._line(text.decode("utf-8", "replace"))

    def exit_status_received(self, status: int) -> None:
        self.code, self.has_status = status, True
        self.exited.set()

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self.has_status = True
        self.exited.set()

    def eof_received(self) -> bool:
        if self._rest and self._line is not None:
            self._line(self._rest.decode("utf-8", "replace"))
            self._rest = b""
        self.over.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc is not None and not self.has_status
        self.over.set()
        self.exited.set()


def _pinned(host: Host) -> tuple[Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey]]:
    try:
        return [asyncssh.import_public_key(host.host_key)], [], []
    except asyncssh.KeyImportError:
        raise BadSettings(
            f"hosts: the host_key of {host.name!r} is no public key: write it as in the host's "
            "/etc/ssh/ssh_host_ed25519_key.pub, `ssh-ed25519 AAAA...`."
        ) from None


def _said(error: asyncssh.Error) -> str:
    return (error.reason or type(error).__name__).rstrip(".")
