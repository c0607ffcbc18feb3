"""A session as text for a person: a row, a paragraph, a sentence."""

from datetime import timedelta

from noah.cli.output import Column
from noah.cli.terminal import BAD, CARE, GOOD, QUIET
from noah.cli.times import age, clock
from noah.client.gateway_client import Json
from noah.core.printable import printable
from noah.duration import format_duration

_STATUSES = {
    **dict.fromkeys(("ready", "attached"), GOOD),
    **dict.fromkeys(("pending", "starting", "waiting", "ending"), CARE),
    "suspended": BAD,
    "ended": QUIET,
}


def name(session: Json) -> str:
    return str(session["id"])


def address(session: Json) -> str | None:
    if session.get("needs_connect") or not session.get("port"):
        return None
    return f"{session['host']}:{session['port']}"


def left(session: Json) -> str | None:
    seconds = session.get("expires_in_seconds")
    if not isinstance(seconds, int | float) or session.get("end_reason"):
        return None
    return format_duration(timedelta(seconds=seconds))


def until(session: Json) -> str:
    return f"until {clock(session.get('expires_at'))}" + (f" ({left(session)})" if left(session) else "")


def why(session: Json) -> str | None:
    """Return the one thing to know about it now: why it ended, where it is suspended, what it waits for."""
    if reason := session.get("end_reason"):
        by = session.get("ended_by")
        said = session.get("end_detail") or (f"by {by}" if by and reason == "canceled" else "")
        return f"{reason}: {said}" if said else str(reason)
    line = session.get("line") or {}
    if line.get("state") == "lost":
        return f"line lost for {age(line.get('since'))}"
    vm = session.get("vm") or {}
    if vm.get("state") == "suspended":
        stop = f"{_at(vm)}for {age(vm.get('since'))}"
        return f"{stop}: {session['reason']}" if session.get("reason") else stop
    return session.get("reason")


def _at(vm: Json) -> str:
    where = vm.get("location") or vm.get("thread")
    return f"at {where} " if where else ""


def describe(session: Json) -> str:
    """Return all that a person may want to know about one session."""
    facts = {
        "Session": session["id"],
        "Target": session["target"],
        "Status": ": ".join(filter(None, [session["status"], why(session)])),
        "Owner": session.get("owner"),
        "Address": address(session),
        "Lasts": None if session.get("ended_at") else until(session),
        "Ended": session.get("ended_at") and clock(session["ended_at"]),
        "Debugger": _debugger(session.get("attached")),
        "Line": _line(session.get("line")),
        "Allowed": ", ".join(session.get("allow") or ()),
    }
    lines = [f"{label + ':':<10}{printable(str(fact))}" for label, fact in facts.items() if fact]
    steps = [f"  {step_line(step)}" for step in session.get("steps") or ()]
    return "\n".join(lines + (["Steps:", *steps] if steps else []))


def step_line(step: Json) -> str:
    return printable(f"{clock(step.get('at'), seconds=True)}  {step.get('text')}")


def _line(line: Json | None) -> str | None:
    if line is None:
        return None
    return f"{line.get('state')} since {clock(line.get('since'), seconds=True)}, to {line.get('address')}"


def _debugger(attached: Json | None) -> str | None:
    if attached is None:
        return None
    return (
        f"{attached.get('debugger') or 'unknown'}, from {attached.get('address')} since {clock(attached.get('since'))}"
    )


COLUMNS = (
    Column("ID", lambda s: s["id"]),
    Column("TARGET", lambda s: s["target"]),
    Column("OWNER", lambda s: s.get("owner")),
    Column("STATUS", lambda s: s["status"], _STATUSES),
    Column("ADDRESS", address),
    Column("AGE", lambda s: age(s.get("created_at"))),
    Column("LEFT", left),
    Column("WHY", why),
)
