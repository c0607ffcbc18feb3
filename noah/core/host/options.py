"""An options file of a JVM on a host: where its debug flags go, and how they are taken out again.

The file is lines of a shell or of systemd, VARIABLE="...", in whatever encoding; all but the flags stays byte for byte.
"""

import re

from noah.core.host.assignments import Assignment, NotEditable, assignments, is_mentioned

CLASSIC = "-Xdebug -Xrunjdwp:transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{port}"
# The same agent since JDK 5, spelled the way that newer ones do not warn about; quiet: no line at each new debugger.
MODERN = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{port},quiet=y"
MODERN_SINCE = 9

_FLAGS = re.compile(rb"-(?:agentlib:|Xrun)jdwp[:=]\S*")


def flags_for(versions: set[str], port: int) -> str:
    """Return the flags for a host's JVMs: the classic spelling serves them all, if one is old or not known."""
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
    """Return *text* with *flags* first in the last assignment of *variable*, or in one of its own at the end.

    NotEditable where that could shadow what the app gets now, or be shadowed.
    """
    chars = text.decode("latin-1")  # a character for each byte
    found = assignments(chars, variable)
    if not found:
        if is_mentioned(chars, variable):
            raise NotEditable(f'{variable} is used there and not set: put {variable}="..." on a line of its own')
        return text + _line_of_its_own(text, variable, flags)
    for one in found:
        if not one.always and not one.adds and not _keeps(chars, one, variable):
            raise NotEditable(f"{variable} is set there only sometimes: set it before that, on a line of its own")
    always = [one for one in found if one.always]
    if not always:
        raise NotEditable(f"{variable} is set there only sometimes: set it before that, on a line of its own")
    return _edited(chars, always[-1], variable, flags).encode("latin-1")


def _line_of_its_own(text: bytes, variable: str, flags: str) -> bytes:
    newline = b"\r\n" if b"\r\n" in text else b"\n"
    end = newline if text and not text.endswith(b"\n") else b""
    return end + f'{variable}="{flags}"'.encode() + newline


def _keeps(text: str, assignment: Assignment, variable: str) -> bool:
    """True if the value that it gives holds the one from before."""
    value = text[assignment.value_at : assignment.value_end]
    return bool(re.search(rf"\$(?:{variable}\b|\{{{variable}\}})", value))


def _edited(text: str, assignment: Assignment, variable: str, flags: str) -> str:
    at, first = assignment.value_at, text[assignment.value_at : assignment.value_at + 1]
    if first == "(":
        raise NotEditable(f"{variable} is an array there")
    before = " " if assignment.adds else ""
    if first and first in "\"'":
        rest = "" if text[at + 1 : at + 2] == first else " "
        return text[: at + 1] + before + flags + rest + text[at + 1 :]
    value = text[at : assignment.value_end] if assignment.alone else _rest_of_line(text, at, variable)
    if re.search(r"[\"'\\`~]|\$[({']", value.replace("${", "")):
        raise NotEditable(f"the value of {variable} stands there without quotes around it: put it into quotes")
    rest = " " + value if value else ""
    return text[:at] + '"' + before + flags + rest + '"' + text[at + len(value) :]


def _rest_of_line(text: str, at: int, variable: str) -> str:
    """Return a value as systemd reads it: without quotes, with blanks in it, up to the line's end or a comment.

    For a shell the words behind the first are a command that is run with it: that is not an option then.
    """
    line = re.match(r"[^\r\n;]*", text[at:])
    assert line is not None
    value = re.split(r"[ \t]+#", line[0])[0].rstrip()
    if any(not word.startswith("-") for word in value.split()[1:]) or re.search(r"(?m)^[ \t]*export[ \t]", text):
        raise NotEditable(f"the value of {variable} stands there without quotes around it: put it into quotes")
    return value


def taken_back(now: bytes, *, before: bytes, after: bytes) -> bytes:
    """Return *before*, as long as nobody has changed the file since; else what they made of it, without our flags."""
    if now == after:
        return before
    added = after.removeprefix(before).strip() if after.startswith(before) else b""
    if added:
        # An assignment of its own: without the flags it would still hide what the variable has elsewhere.
        lines = [line for line in now.splitlines(keepends=True) if line.strip() != added]
        if len(lines) < len(now.splitlines()):
            return b"".join(lines)
    flag = _added(before, after)
    if not flag or flag.strip() in before:
        return now
    # A line that somebody has copied has the flags twice; a comment with them does nothing.
    lines = now.splitlines(keepends=True)
    ours = re.compile(re.escape(flag.strip()) + b" ?")
    return b"".join(line if line.lstrip().startswith(b"#") else ours.sub(b"", line) for line in lines)


def _added(before: bytes, after: bytes) -> bytes:
    """Return the flags that were put in, with the space behind them if there is one."""
    start = after.find(b"-Xdebug" if after.count(b"-Xdebug") > before.count(b"-Xdebug") else b"-agentlib:jdwp")
    match = re.compile(rb"(?:-Xdebug )?-(?:Xrun|agentlib:)jdwp[:=][^\s\"']* ?").match(after, max(start, 0))
    return match[0] if match and after != before else b""
