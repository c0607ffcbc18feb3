"""What the store keeps of releases, on SQLite and on PostgreSQL alike."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from noah.core.release.release import Progress, Release, Result
from noah.core.release.release_event import Numbered, ReleaseEvent, ReleaseEventKind
from noah.core.workload import WorkloadKind
from noah.store import Store, releases

BEGAN = datetime(2026, 1, 1, 22, 15, tzinfo=UTC)


def release(id: str = "r-1", *, hours: int = 0, workload: str = "shop", namespace: str = "n") -> Release:
    return Release(
        id=id,
        cluster="dev",
        namespace=namespace,
        environment=namespace,
        kind=WorkloadKind.DEPLOYMENT,
        workload=workload,
        revision="3",
        started_at=BEGAN + timedelta(hours=hours),
        progress=Progress(Result.RUNNING, 1, 3, "1 of 3 online"),
    )


def events(*texts: str) -> list[Numbered]:
    return [
        (n, ReleaseEvent("2026-01-01T22:15:00.000001Z", ReleaseEventKind.LOG, text, {"pod": "a"}))
        for n, text in enumerate(texts, 7)
    ]


async def test_a_release_and_its_events_come_back_the_same(store: Store) -> None:
    published = events("plain", "grüße 🚀", "a\nb \x1b[1m\0 \u2028", "")
    await store.releases.save(release(), published)
    assert await store.releases.get("r-1") == release()
    assert await store.releases.events("r-1") == published
    assert await store.releases.get("r-2") is None
    assert await store.releases.events("r-2") == []


async def test_what_is_saved_again_takes_the_place_of_what_was(store: Store) -> None:
    await store.releases.save(release(), events("first"))
    failed = Progress(Result.FAILED, 1, 3, "It says \0" + "x" * 5000)
    ended = replace(release(), ended_at=BEGAN + timedelta(minutes=5), progress=failed)
    await store.releases.save(ended, events("second"))
    kept = await store.releases.get("r-1")
    assert kept is not None
    assert kept.ended_at == ended.ended_at
    assert kept.progress.result is Result.FAILED
    assert kept.progress.sentence == "It says " + "x" * 1992
    assert [event.text for _, event in await store.releases.events("r-1")] == ["second"]


async def test_releases_are_found_by_what_they_are(store: Store) -> None:
    await store.releases.save(release("r-1"), [])
    await store.releases.save(release("r-2", workload="cart"), [])
    await store.releases.save(replace(release("r-3", namespace="m"), progress=Progress(Result.DONE, 3, 3, "")), [])

    async def ids(**wanted: str) -> set[str]:
        return {one.id for one in await store.releases.find(**wanted)}  # type: ignore[arg-type]

    assert await ids() == {"r-1", "r-2", "r-3"}
    assert await ids(workload="shop") == {"r-1", "r-3"}
    assert await ids(workload="shop", namespace="n", cluster="dev") == {"r-1"}
    assert await ids(result=Result.DONE) == {"r-3"}
    assert await ids(cluster="test") == set()


async def test_the_oldest_ones_are_forgotten(store: Store) -> None:
    for n in range(releases.KEPT + 3):
        await store.releases.save(release(f"r-{n:04}", hours=n), [])
    found = sorted(one.id for one in await store.releases.find())
    assert len(found) == releases.KEPT
    assert found[0] == "r-0003"
