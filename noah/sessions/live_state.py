"""What is true of a session now, as its gateway writes it for the others: values, and JSON of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from noah.core.printable import storable
from noah.core.session.session import Attachment, Status, Vm, VmState
from noah.proxy.tunnel import LineInfo

MOST_BYTES: Final = 32 * 1024  # of the steps; the oldest are left out


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened to a session, in words for the developer."""

    at: datetime
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    status: Status
    reason: str | None
    attached: Attachment | None
    vm: VmState | None
    lines: Mapping[str, LineInfo]  # by the IDs of those who came by them
    is_open: bool  # debuggers can come in
    was_ready: bool  # at some time: what is in the way since then passes by
    steps: Sequence[Step]

    def to_json(self) -> dict[str, Any]:
        attached, vm = self.attached, self.vm
        return {
            "status": str(self.status),
            "reason": self.reason and storable(self.reason),
            "attached": attached
            and {
                "address": attached.address,
                "since": attached.since.isoformat(),
                "debugger": attached.debugger and storable(attached.debugger),
                "vm_name": attached.vm_name and storable(attached.vm_name),
            },
            "vm": vm
            and {
                "vm": str(vm.vm),
                "since": vm.since.isoformat(),
                "thread": vm.thread and storable(vm.thread),
                "location": vm.location and storable(vm.location),
            },
            "lines": {
                who: {
                    "address": line.address,
                    "port": line.port,
                    "since": line.since.isoformat(),
                    "is_lost": line.is_lost,
                }
                for who, line in self.lines.items()
            },
            "is_open": self.is_open,
            "was_ready": self.was_ready,
            "steps": _newest([[one.at.isoformat(), storable(one.text)] for one in self.steps]),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "LiveState":
        attached, vm = state["attached"], state["vm"]
        return cls(
            status=Status(state["status"]),
            reason=state["reason"],
            attached=attached and Attachment(**{**attached, "since": datetime.fromisoformat(attached["since"])}),
            vm=vm and VmState(**{**vm, "vm": Vm(vm["vm"]), "since": datetime.fromisoformat(vm["since"])}),
            lines={
                who: LineInfo(**{**line, "since": datetime.fromisoformat(line["since"])})
                for who, line in state["lines"].items()
            },
            is_open=state["is_open"],
            was_ready=state.get("was_ready", False),
            steps=steps_of(state),
        )


def steps_of(state: Mapping[str, Any] | None) -> Sequence[Step]:
    return [Step(datetime.fromisoformat(at), text) for at, text in state["steps"]] if state else []


def _newest(steps: list[list[str]]) -> list[list[str]]:
    kept, left = len(steps), MOST_BYTES
    while kept and (left := left - len(json.dumps(steps[kept - 1]))) >= 0:
        kept -= 1
    return steps[kept:]
