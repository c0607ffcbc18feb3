"""Releases: the list, and a watch that is cut, that begins again, that is replaced."""

import json
from typing import Any

import pytest

from noah.core.release.release_event import ReleaseEventKind
from tests.acceptance.cli.command import noah
from tests.acceptance.cli.scripted_gateway import ScriptedGateway, event, refuses, says, streams

FOLLOW = "POST /releases"
BY_ID = "GET /releases/r-1/events"
ONE = {
    "id": "r-1",
    "cluster": "dev",
    "namespace": "team-a",
    "kind": "Deployment",
    "workload": "shop",
    "revision": "3",
    "started_at": "2026-01-01T10:00:00.000Z",
    "ended_at": None,
    "result": "failed",
    "online": 1,
    "wanted": 3,
    "text": "A quota forbids its pods.",
}


def numbered(run: str, n: int, kind: str, text: str, **more: Any) -> str:
    return event(f"{run}-{n}", kind, at=f"2026-01-01T10:00:00.{n:09}Z", n=n, text=text, **more)


def line(run: str, n: int, text: str) -> str:
    return numbered(run, n, "log", text, pod="shop-1", container="app", restart=0)


def begins(run: str, release: str = "r-1") -> str:
    return numbered(run, 1, "release", f"Revision 3 of {release}", release=release)


async def test_a_cut_watch_goes_on_with_the_same_release_and_shows_nothing_twice(gateway: ScriptedGateway) -> None:
    gateway.on(FOLLOW, says(ONE))
    gateway.on(
        BY_ID,
        streams(begins("a"), line("a", 2, "one"), cut=True),
        streams(line("a", 3, "two"), cut=True),
        refuses(503, "The gateway is stopping."),
        streams(
            numbered("b", 0, ReleaseEventKind.RESTARTED, "The stream begins again."),
            begins("b"),
            *(line("b", n, text) for n, text in ((2, "one"), (3, "two"), (4, "three"))),
            numbered("b", 5, "end", "3 of 3 online", result="done"),
        ),
    )
    wanted = [
        "--since",
        "10m",
        "--tail",
        "5",
        "--filter",
        "o",
        "--pod",
        "shop-1",
        "--container",
        "app",
        "--no-previous",
    ]
    where = ["--cluster", "dev", "-n", "team-a"]
    said = await noah(gateway.url, "release", "watch", "shop", *where, *wanted, "-o", "json")
    shown = [json.loads(text) for text in said.out.splitlines()]
    assert [one["text"] for one in shown] == ["Revision 3 of r-1", "one", "two", "three", "3 of 3 online"]
    assert said.code == 0
    query = {"since": "10m", "tail": "5", "filter": "o", "pod": "shop-1", "container": "app", "previous": "false"}
    follow, *watched = gateway.asked
    assert follow.body == {"cluster": "dev", "namespace": "team-a", "workload": "shop", "kind": "deploy"}
    assert [asked.query for asked in watched] == [query] * 4
    assert [asked.last_event_id for asked in watched] == [None, "a-2", "a-3", "a-3"]


async def test_a_release_that_a_killed_gateway_had_not_kept_yet_is_asked_for_by_its_workload(
    gateway: ScriptedGateway,
) -> None:
    gateway.on(FOLLOW, says(ONE), refuses(503, "The gateway is stopping."), says({**ONE, "id": "r-1b"}))
    gateway.on(
        BY_ID,
        streams(begins("a"), line("a", 2, "one"), cut=True),
        refuses(404, "There is no release 'r-1', or not any more."),
    )
    gateway.on(
        "GET /releases/r-1b/events",
        streams(
            numbered("b", 0, ReleaseEventKind.RESTARTED, "The stream begins again."),
            begins("b"),
            *(line("b", n, text) for n, text in ((2, "one"), (3, "two"))),
            numbered("b", 4, "end", "3 of 3 online", result="done"),
        ),
    )
    said = await noah(gateway.url, "release", "watch", "shop", "--cluster", "dev", "-n", "team-a")
    assert said.code == 0
    assert [text.split()[-1] for text in said.out.splitlines()] == ["r-1", "one", "two", "online"]
    by_id = [asked.last_event_id for asked in gateway.asked if asked.what.startswith("GET")]
    assert by_id == [None, "a-2", "a-2", "a-2"]


async def test_a_release_that_is_replaced_is_followed_by_the_next_one(gateway: ScriptedGateway) -> None:
    gateway.on(FOLLOW, says(ONE), says({**ONE, "id": "r-2"}))
    gateway.on(
        BY_ID, streams(begins("a"), numbered("a", 2, "end", "Revision 4 has taken its place.", result="replaced"))
    )
    gateway.on(
        "GET /releases/r-2/events",
        streams(begins("b", "r-2"), numbered("b", 2, "end", "It crashes again and again.", result="failed")),
    )
    said = await noah(gateway.url, "release", "watch", "deploy/shop", "--cluster", "dev", "-n", "team-a")
    assert said.code == 6
    texts = [text.partition("  ")[2] for text in said.out.splitlines()]
    assert texts == [
        "Revision 3 of r-1",
        "Revision 4 has taken its place.",
        "Revision 3 of r-2",
        "It crashes again and again.",
    ]


async def test_each_kind_of_event_reads_well(gateway: ScriptedGateway) -> None:
    gateway.on(
        BY_ID,
        streams(
            begins("kept"),
            numbered(
                "kept", 2, "event", "Back-off", object="Pod/shop-1", pod="shop-1", type="Warning", reason="BackOff"
            ),
            numbered("kept", 3, "hook", "migrating\x1b[2J", pod="shop-1", container="app", restart=1, hook="preStart"),
            numbered("kept", 4, "online", "healthcheck.html is gone", pod="shop-1", online=False),
            numbered("kept", 5, "gap", "7 lines were left out here.", missed=7),
            numbered("kept", 6, "end", "The workload was deleted.", result="replaced"),
        ),
    )
    said = await noah(gateway.url, "release", "watch", "r-1")
    assert said.code == 6
    assert [text.partition("  ")[2] for text in said.out.splitlines()] == [
        "Revision 3 of r-1",
        "shop-1: BackOff: Back-off",
        "shop-1 app (run 2)  [preStart] migrating\ufffd[2J",
        "shop-1: healthcheck.html is gone",
        "7 lines were left out here.",
        "The workload was deleted.",
    ]


async def test_releases_are_listed(gateway: ScriptedGateway) -> None:
    gateway.on("GET /releases", says({"items": [ONE], "continue": None, "total": 1}))
    said = await noah(gateway.url, "release", "list", "-n", "team-a", "--result", "failed")
    header, row = said.out.splitlines()
    assert header.split() == ["ID", "NAMESPACE", "WORKLOAD", "REVISION", "STARTED", "RESULT", "ONLINE", "DETAIL"]
    assert row.split()[:4] == ["r-1", "team-a", "Deployment/shop", "3"]
    assert row.endswith("failed   1/3      A quota forbids its pods.")
    assert gateway.asked[0].query == {"namespace": "team-a", "result": "failed", "limit": "50"}


@pytest.mark.parametrize(
    ("argv", "code", "says_what"),
    [
        (["shop"], 2, "Name its namespace with -n, or its environment with --env."),
        (["job/shop", "-n", "x"], 2, "job has no releases: write one of deploy/NAME, sts/NAME, ds/NAME."),
        (["shop", "-n", "x", "--tail", "-1"], 2, "Invalid value for '--tail'"),
        (["r-0"], 3, "Nothing is scripted for GET /api/v1/releases/r-0/events."),
    ],
)
async def test_what_cannot_be_watched_is_said_in_one_sentence(
    gateway: ScriptedGateway, argv: list[str], code: int, says_what: str
) -> None:
    said = await noah(gateway.url, "release", "watch", *argv)
    assert (said.code, says_what in said.err) == (code, True), said
