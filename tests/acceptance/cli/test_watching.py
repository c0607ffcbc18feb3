"""Events as they happen, the doctor, and IDE files."""

import asyncio
import json
import os
import re
import signal
from pathlib import Path

from tests.acceptance.cli.command import TARGET, noah, ran, start
from tests.acceptance.cli.scripted_gateway import ScriptedGateway, event, file, refuses, says, streams


async def test_events_go_on_over_a_cut_without_gaps_and_doubles(gateway: ScriptedGateway) -> None:
    gateway.on(
        "GET /events",
        streams(": ping\n\n", event("e-1", "step", text="one"), event("e-2", "step", text="two"), cut=True),
        streams(event("e-2", "step", text="two"), event("e-3", "step", text="three")),
        refuses(503, "The gateway is stopping."),
        streams(event("e-4", "step", text="four"), forever=True),
    )
    process = await start(gateway.url, "events", "-f", "--target", "local/orders", "-o", "json")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        lines = [json.loads(await process.stdout.readline()) for _ in range(4)]
    process.send_signal(signal.SIGINT)
    said = await ran(process)
    assert [line["text"] for line in lines] == ["one", "two", "three", "four"]
    assert [asked.last_event_id for asked in gateway.asked] == [None, "e-2", "e-3", "e-3"]
    assert all(asked.query == {"target": "local/orders"} for asked in gateway.asked)
    assert (said.code, said.out) == (130, "")
    assert said.err.split("\n")[:2] == ["The gateway is away (HTTP 503); waiting for it.", "The gateway is back."]


async def test_the_doctors_errors_are_an_exit_code(gateway: ScriptedGateway) -> None:
    fine = {"level": "ok", "check": "reachable", "message": "The API answers."}
    missing = {"level": "error", "check": "exec", "message": "The right create on pods/exec is missing."}
    gateway.on("POST /clusters/dev/doctor", says({"findings": [fine]}))
    gateway.on("POST /clusters/test/doctor", says({"findings": [fine, missing]}))
    said = await noah(gateway.url, "doctor", "test")
    assert said.code == 6
    assert said.out.splitlines() == [
        "test",
        "  ok       The API answers.",
        "  error    The right create on pods/exec is missing.",
    ]
    assert (await noah(gateway.url, "doctor", "dev")).code == 0


async def test_the_doctor_of_all_is_a_table_with_a_line_for_each(gateway: ScriptedGateway) -> None:
    lines = [
        {"what": "cluster/dev", "level": "ok", "message": "The gateway reaches pods.", "took_seconds": 0.04},
        {"what": "host/kvm-1", "level": "error", "message": "Host kvm-1 does not answer.", "took_seconds": 5.0},
    ]
    gateway.on("POST /doctor", says({"items": lines}))
    said = await noah(gateway.url, "doctor")
    assert said.code == 6
    assert [line.split(maxsplit=3) for line in said.out.splitlines()] == [
        ["WHAT", "LEVEL", "TOOK", "MESSAGE"],
        ["cluster/dev", "ok", "0.0s", "The gateway reaches pods."],
        ["host/kvm-1", "error", "5.0s", "Host kvm-1 does not answer."],
    ]
    gateway.on("POST /doctor", says({"items": lines}))
    assert json.loads((await noah(gateway.url, "doctor", "-o", "json")).out)["items"] == lines


async def test_the_doctor_looks_at_a_pod_that_is_named_by_its_deployment(gateway: ScriptedGateway) -> None:
    gateway.on("GET /targets/pod/dev/team-a/deploy/shop", says(TARGET))
    gateway.on("POST /clusters/dev/doctor", says({"findings": []}))
    await noah(gateway.url, "doctor", "deploy/shop", "--cluster", "dev", "-n", "team-a")
    await noah(gateway.url, "doctor", "pod/dev/team-a/shop-1")
    asked = [asked.body for asked in gateway.asked if asked.what.endswith("doctor")]
    assert asked == [{"pod": "team-a/shop-1/app"}, {"pod": "team-a/shop-1"}]


async def test_a_person_reads_each_change_once(gateway: ScriptedGateway) -> None:
    about = {"at": "2026-01-01T10:00:00.000Z", "subject": "local/orders", "session": "s-1"}
    gateway.on(
        "GET /events",
        streams(
            event("e-1", "step", **about, text="Ready."),
            event("e-2", "session", **about, status="ready", reason=None),
            event("e-3", "session", **about, status="waiting", reason="The pod is\x1b[2J gone."),
            event("e-4", "session", **about, status="waiting", reason="The pod is\x1b[2J gone."),
            event("e-5", "reload", at=about["at"], subject=""),
            forever=True,
        ),
    )
    process = await start(gateway.url, "events", "-f")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        lines = [(await process.stdout.readline()).decode() for _ in range(3)]
    process.terminate()
    await ran(process)
    assert [re.split("  +", line.rstrip())[1:] for line in lines] == [
        ["step", "local/orders", "Ready.", "session=s-1"],
        ["session", "local/orders", "waiting: The pod is\ufffd[2J gone.", "session=s-1"],
        ["reload", "some events were missed: `noah sessions` shows how things are now"],
    ]


async def test_a_run_configuration_is_put_where_the_ide_looks_and_never_over_somebody_elses(
    gateway: ScriptedGateway, tmp_path: Path
) -> None:
    gateway.on("GET /sessions/s-1/ide/intellij", file("../../noah shop.run.xml", "<component/>\n"))
    intellij = ["ide", "s-1", "--format", "intellij"]
    printed = await noah(gateway.url, *intellij, cwd=tmp_path)
    assert (printed.out, os.listdir(tmp_path)) == ("<component/>\n", [])
    written = await noah(gateway.url, *intellij, "--write", cwd=tmp_path)
    assert written.out == "Wrote .run/noah shop.run.xml.\n"
    configuration = tmp_path / ".run" / "noah shop.run.xml"
    assert configuration.read_text() == "<component/>\n"
    assert "up to date" in (await noah(gateway.url, *intellij, "--write", cwd=tmp_path)).out
    configuration.write_text("<mine/>")
    refused = await noah(gateway.url, *intellij, "--write", cwd=tmp_path)
    assert (refused.code, configuration.read_text()) == (4, "<mine/>")
    forced = await noah(gateway.url, *intellij, "--write", "--force", cwd=tmp_path)
    assert (forced.code, configuration.read_text()) == (0, "<component/>\n")


async def test_the_launch_json_of_vs_code_is_never_written(gateway: ScriptedGateway, tmp_path: Path) -> None:
    gateway.on("GET /sessions/s-1/ide/vscode", file("launch.json", '{"type": "java"}'))
    said = await noah(gateway.url, "ide", "s-1", "--format", "vscode", "--write", cwd=tmp_path)
    assert (said.code, said.out) == (0, '{"type": "java"}\n')
    assert "Nothing was written: put this into .vscode/launch.json" in said.err
    assert os.listdir(tmp_path) == []
