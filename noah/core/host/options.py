"""An options file of a JVM on a host: where its debug flags go, and how they are taken out again.

The file is lines of a shell or of systemd, VARIABLE="...", in whatever encoding; all but the flags stays byte for byte.
"""

import re

CLASSIC = "-Xdebug -Xrunjdwp:transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{port}"
# The same agent since JDK 5, told the way that newer ones do not warn about; quiet: no line at each new debugger.
MODERN = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{port},quiet=y"
MODERN_SINCE = 9

_FLAGS = re.compile(rb"-(?:agentlib:|Xrun)jdwp[:=]\S*")


class NotEditable(ValueError):
    """One half of a sentence, why."""


def flags_for(versions: set[str], port: int) -> str:
    """By what the host's JVMs are: the classic spelling serves them all, as long as one is old or not known."""
    majors = {_major(version) for version in versions}
    modern = bool(majors) and min(majors) >= MODERN_SINCE
    return (MODERN if modern else CLASSIC).format(port=port)


def _major(version: str) -> int:
    first, _, rest = version.partition(".")
    text = rest.partition(".")[0] if first == "1" else first
    digits = re.match(r"\d+", text)
    return int(digits[0]) if digits else 0


def debug_ports(text: bytes) -> set[int]:
    """The ports of the debug flags that are in force; 0 for flags that name none."""
    ports = set[int]()
    for line in text.splitlines():
        if not line.lstrip().startswith(b"#"):
            for flags in _FLAGS.findall(line):
                address = re.search(rb"address=(?:[^,\s\"']*:)?(\d+)", flags)
                ports.add(int(address[1]) if address else 0)
    return ports


def with_flags(text: bytes, variable: str, flags: str) -> bytes:
    """*text* with *flags* first in the last assignment of *variable*, or with an assignment of its own at the end.

    NotEditable for what is neither shell nor systemd.
    """
    flag = flags.encode()
    assignments = list(re.finditer(rb"(?m)^[ \t]*(?:export[ \t]+)?" + variable.encode() + rb"(\+?)=", text))
    if not assignments:
        newline = b"\r\n" if b"\r\n" in text else b"\n"
        end = newline if text and not text.endswith(b"\n") else b""
        return text + end + variable.encode() + b'="' + flag + b'"' + newline
    last = assignments[-1]
    at, first = last.end(), text[last.end() : last.end() + 1]
    if first == b"(":
        raise NotEditable(f"{variable} is an array there")
    before = b" " if last[1] else b""
    if first in (b'"', b"'"):
        rest = b"" if text[at + 1 : at + 2] == first else b" "
        return text[: at + 1] + before + flag + rest + text[at + 1 :]
    value = _unquoted(text[at:])
    if b'"' in value or b"\\" in value or b"`" in value:
        raise NotEditable(f"the value of {variable} stands there without quotes around it: put it into quotes")
    rest = b" " + value if value else b""
    return text[:at] + b'"' + before + flag + rest + b'"' + text[at + len(value) :]


def _unquoted(text: bytes) -> bytes:
    """A value without quotes: a shell's word, or all of the line for systemd, but no comment behind it."""
    line = re.match(rb"[^\r\n;]*", text)
    assert line is not None
    return re.split(rb"[ \t]+#", line[0])[0].rstrip()


def taken_back(now: bytes, *, before: bytes, after: bytes) -> bytes:
    """*before*, as long as nobody has changed the file since; else what they made of it, without our flags."""
    if now == after:
        return before
    flag = _added(before, after)
    for piece in (flag, flag.strip()):
        if piece and now.count(piece) == 1:
            return now.replace(piece, b"")
    return now


def _added(before: bytes, after: bytes) -> bytes:
    """The flags that were put in, with the space behind them if there is one."""
    start = after.find(b"-Xdebug" if after.count(b"-Xdebug") > before.count(b"-Xdebug") else b"-agentlib:jdwp")
    match = re.compile(rb"(?:-Xdebug )?-(?:Xrun|agentlib:)jdwp[:=][^\s\"']* ?").match(after, max(start, 0))
    return match[0] if match and after != before else b""
