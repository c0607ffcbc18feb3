"""How an app on a host gets its debug flags, and how it loses them again.

Each edit is recorded before it is made (core/edits.py). From any point at which something dies, the next call looks at
the file and the JVM and goes on: forward as long as the session lasts, backward when it is over or the app did not come
up. An app is restarted for the same session once, and once more when that has to be taken back.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace

from noah.core.forwarder import Agent
from noah.core.host import options
from noah.core.host.assignments import NotEditable
from noah.core.host.edits import EditState, HostEdit
from noah.core.session.session import Session
from noah.errors import CannotDebug, NeedsRestart, RolledBack, Unavailable
from noah.store.edits import EditStore
from noah.targets.host.app import HostedApp
from noah.targets.host.ran import TookTooLong

TRY_EVERY = 0.3  # seconds
# After a restart that an earlier gateway began has ended, before a JVM that is not there is restarted again.
JVM_COMES_WITHIN = 5.0  # seconds

Step = Callable[[str], None]


class Restarts:
    """The edits and restarts of one app. The caller holds app.changing."""

    def __init__(self, app: HostedApp, edits: EditStore) -> None:
        self._app = app
        self._edits = edits

    async def take_over(self, session: Session) -> None:
        """Make an edit that an earlier session left to be taken back this session's own."""
        edit = await self._edits.open_of(self._app.target)
        if edit is not None and edit.session != session.id and edit.state in (EditState.APPLIED, EditState.UNDOING):
            await self._edits.change(edit, EditState.PLANNED, session=session.id)

    async def interrupted(self) -> bool:
        """Return whether a restart was begun and its end was never seen."""
        edit = await self._edits.open_of(self._app.target)
        return edit is not None and edit.state in (EditState.PLANNED, EditState.ROLLING_BACK)

    async def wake(self, step: Step) -> None:
        """Start the agent without a restart, where the JVM waits for that."""
        asleep = await self._app.asleep()
        if asleep:
            step("The JVM has its debug agent asleep (onjcmd): waking it by jcmd, without a restart.")
        for jvm in asleep:
            await self._app.have_agent_listen(jvm.pid)

    async def have_agent_listen(self, session: Session, step: Step) -> None:
        """Restart the app with debug flags.

        Raises RolledBack if it does not come up; CannotDebug, with nothing changed, if that cannot be tried.
        """
        edit = await self._edits.open_of(self._app.target)
        if edit is None:
            last = await self._edits.last_of(session.id)
            if last is not None and last.why:
                raise RolledBack(last.why)
            edit = await self._record(session, step)
        elif edit.state is EditState.PLANNED and await self._finished_meanwhile(edit, session):
            return
        match edit.state:
            case EditState.ROLLING_BACK:
                raise await self._rolled_back(edit, step)
            case EditState.UNDOING:
                raise Unavailable(f"{self._app.target} is being put back for the session before: a moment.")
            case EditState.APPLIED:
                raise CannotDebug(
                    f"The debug flags of {self._app.target} are gone: somebody restarted it without them. "
                    "End this session and enable debugging again."
                )
        await self._bring_up(edit, step)

    async def take_back(self, edit: HostEdit, step: Step) -> None:
        """Take an edit back after its session, as the host's `ends` says. May be called again after any failure."""
        # Flags that stood there before the session are not the session's to take out.
        kept = self._app.ssh.host.ends == "keep" or edit.before == edit.after
        if edit.state is EditState.APPLIED and kept:
            await self._now(edit, EditState.KEPT)
            return
        # What was never seen to come up may stand still in the middle of its restart.
        interrupted = edit.state in (EditState.PLANNED, EditState.ROLLING_BACK)
        edit = await self._now(edit, EditState.ROLLING_BACK if interrupted else EditState.UNDOING)
        if await self._put_back(edit):
            step(f"{edit.file} is put back as it was.")
        if interrupted or self._app.ssh.host.ends == "revert":
            wrong = await self._run_without_flags(edit, step)
            if wrong is not None:
                step(f"{edit.target} does not come up without the debug flags: {wrong}.")
        await self._now(edit, EditState.UNDONE)

    # -- inside

    async def _finished_meanwhile(self, edit: HostEdit, session: Session) -> bool:
        """Return whether the restart begun by an earlier attempt has completed."""
        if await self._is_up(within=TRY_EVERY) is None:
            await self._now(edit, EditState.APPLIED)
            return True
        if not session.may_restart:  # it was another session's, which was asked
            await self._now(edit, EditState.UNDOING)
            raise CannotDebug(f"{self._app.target} needs a restart to be debugged: enable it again and confirm that.")
        return False

    async def _record(self, session: Session, step: Step) -> HostEdit:
        app, target = self._app.app, self._app.target
        if app.options_file is None or app.restart_command is None:
            raise CannotDebug(
                f"The JVM of {target} does not listen for a debugger on port {app.jdwp_port}, and the configuration "
                "has no options_file and no way to restart it."
            )
        if not session.may_restart:
            raise CannotDebug(f"{target} needs a restart to be debugged: enable it again and confirm that.")
        if await self._app.port_is_taken():
            raise CannotDebug(f"Port {app.jdwp_port} of {self._app.where} is taken by a program that is not {target}.")
        file = await self._app.read_options(app.options_file)
        edit = HostEdit(
            id=f"e-{secrets.token_hex(4)}",
            target=target,
            session=session.id,
            file=app.options_file,
            before=file.content,
            after=await self._with_flags(file.content),
            mode=file.mode,
            owner=file.owner,
            state=EditState.PLANNED,
        )
        await self._edits.record(edit)
        step(f"{target} needs a restart: recorded what {edit.file} is ({len(file.content)} bytes).")
        return edit

    async def _with_flags(self, content: bytes) -> bytes:
        app = self._app.app
        if ports := options.debug_ports(content):
            if ports != {app.jdwp_port}:
                there = ", ".join(map(str, sorted(ports)))
                raise CannotDebug(
                    f"{app.options_file} on {self._app.where} has debug flags for port {there}, not {app.jdwp_port}: "
                    "set jdwp_port, or take them out."
                )
            return content
        flags = options.flags_for({jvm.version for jvm in await self._app.jvms()}, app.jdwp_port)
        try:
            return options.with_flags(content, app.options_variable, flags)
        except NotEditable as e:
            raise CannotDebug(f"{app.options_file} on {self._app.where} cannot be edited: {e}.") from None

    async def _bring_up(self, edit: HostEdit, step: Step) -> None:
        was_restarting = await self._put_flags_in(edit, step) and await self._was_restarting(edit)
        wrong = (None if was_restarting else await self._restart(edit, step)) or await self._is_up(within=self._takes)
        if wrong is None:
            await self._now(edit, EditState.APPLIED)
            step("It is up, with its debug agent listening.")
            return
        why = f"{edit.target} did not come up with the debug flags: {wrong}."
        step(f"{why} Taking them back.")
        raise await self._rolled_back(await self._now(edit, EditState.ROLLING_BACK, why=why), step)

    async def _put_flags_in(self, edit: HostEdit, step: Step) -> bool:
        """Edit the file; return True if this edit's flags were in it already, from before an interruption."""
        now = (await self._app.read_options(edit.file, to_change=True)).content
        if options.taken_back(now, before=edit.before, after=edit.after) != now:
            return True
        try:
            if now != edit.before:
                raise CannotDebug(
                    f"{edit.file} on {self._app.where} was changed by somebody else meanwhile: try again."
                )
            if edit.after != edit.before:
                await self._app.replace_options(edit.file, edit.before, edit.after)
                step(f"Put the debug flags into {self._app.app.options_variable} of {edit.file}.")
        except CannotDebug:
            await self._now(edit, EditState.UNDONE)  # nothing of it is in the file
            raise
        return False

    async def _was_restarting(self, edit: HostEdit) -> bool:
        """Return whether an interrupted attempt had restarted the app already; waits for a restart that still runs."""
        await self._restart_has_ended(edit)
        return await self._is_up(within=JVM_COMES_WITHIN) is None or await self._listens()

    async def _restart_has_ended(self, edit: HostEdit) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._takes
        while loop.time() < until:
            if not await self._app.is_restarting(edit.file):
                return
            await asyncio.sleep(TRY_EVERY)

    async def _listens(self) -> bool:
        return (await self._app.forwarder("look", "doctor")).agent is not Agent.NONE

    @property
    def _takes(self) -> float:
        return self._app.app.restart_takes.total_seconds()

    async def _restart(self, edit: HostEdit, step: Step) -> str | None:
        """Restart the app and return what went wrong."""
        command = self._app.app.restart_command
        if command is None:
            return "the configuration has no way to restart it any more"
        step(f"Restarting: {' && '.join(command.splitlines())}")

        def say(text: str) -> None:
            if text.strip():
                step(f"  {text[:300]}")

        try:
            ran = await self._app.restart(edit.file, command, line=say)
        except TookTooLong:
            await self._app.is_restarting(edit.file)  # Unavailable when it is the whole host that stands still
            return f"the restart took longer than {self._takes:.0f} s"
        return None if ran.code == 0 else f"the restart ended with exit code {ran.code} ({ran.said})"

    async def _is_up(self, *, within: float, flags: bool = True) -> str | None:
        """Return None once the app is healthy, and listens for a debugger if *flags*; else what is wrong at the end."""
        loop = asyncio.get_running_loop()
        until, wrong = loop.time() + within, "nobody has looked"
        while loop.time() < until:
            answer = await self._app.forwarder("look", "doctor")
            if answer.java is None:
                wrong = "no Java process runs"
            elif (sick := await self._app.healthy()) is not None:
                wrong = sick
            elif flags and answer.agent is Agent.NONE:
                wrong = f"it does not listen on port {self._app.app.jdwp_port}; does its start use {self._variable}?"
            else:
                return None
            await asyncio.sleep(TRY_EVERY)
        return f"{wrong} after {within:.0f} s"

    @property
    def _variable(self) -> str:
        return f"{self._app.app.options_variable} of {self._app.app.options_file}"

    async def _rolled_back(self, edit: HostEdit, step: Step) -> RolledBack:
        """Take the edit back and return the error to raise."""
        await self._put_back(edit)
        step(f"{edit.file} is put back as it was.")
        wrong = await self._run_without_flags(edit, step)
        state = f"but it does not come up with them either: {wrong}" if wrong else "and it runs again"
        why = f"{edit.why or ''} Its options are as they were before, {state}.".strip()
        await self._now(edit, EditState.UNDONE, why=why)
        return RolledBack(why)

    async def _put_back(self, edit: HostEdit) -> bool:
        now = (await self._app.read_options(edit.file, to_change=True)).content
        back = options.taken_back(now, before=edit.before, after=edit.after)
        if back != now:
            await self._app.replace_options(edit.file, now, back)
        return back != now

    async def _run_without_flags(self, edit: HostEdit, step: Step) -> str | None:
        await self._restart_has_ended(edit)
        answer = await self._app.forwarder("look", "doctor")
        if answer.java is not None and answer.agent is Agent.NONE and await self._app.healthy() is None:
            return None
        return await self._restart(edit, step) or await self._is_up(within=self._takes, flags=False)

    async def _now(self, edit: HostEdit, state: EditState, *, why: str | None = None) -> HostEdit:
        if not await self._edits.change(edit, state, why=why):
            raise Unavailable(f"The edit of {edit.target} was changed by another gateway: looking again.")
        return replace(edit, state=state, why=why or edit.why)


def needs_restart(app: HostedApp) -> NeedsRestart:
    host = app.ssh.host
    after = {
        "keep": "they stay there when the session ends",
        "revert": "the session's end takes them out, with another restart",
        "revert-at-next-restart": "the session's end takes them out of the file, and its next restart out of the JVM",
    }[host.ends]
    return NeedsRestart(
        f"{app.target} needs a restart: its JVM does not listen for a debugger. It would get debug flags in "
        f"{app.app.options_file}; {after}. Confirm that (confirm_restart)."
    )
