"""How a release goes, judged from what the API and the logs say."""

from typing import Any

import pytest

from noah.core.release.log_cursor import LogCursor
from noah.core.release.release import Progress, Revision, is_of, judge, replaced_by, revision_of

NEW = Revision(id="r-1", number="3", mark="new", made_at=None, generation=3, template={})


def judged(
    workload: dict[str, Any],
    pods: list[dict[str, Any]],
    tails: dict[tuple[str, str], list[str]] | None = None,
    *,
    refused: str | None = None,
    stalled: bool = False,
) -> Progress:
    return judge(workload, NEW, pods, tails or {}, refused=refused, stalled=stalled)


def workload(*, replicas: int = 2, updated: int = 2, **status: Any) -> dict[str, Any]:
    status = {"observedGeneration": 3, "updatedReplicas": updated, "replicas": replicas, **status}
    return {"kind": "Deployment", "metadata": {"generation": 3}, "spec": {"replicas": replicas}, "status": status}


def pod(
    name: str, *, ready: bool = False, revision: str = "new", made: str = "2026-01-01T10:00:02Z", **app: Any
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "n",
            "creationTimestamp": made,
            "labels": {"pod-template-hash": revision},
        },
        "spec": {"containers": [{"name": "app"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "app", **app}],
        },
    }


ONLINE = [pod("a", ready=True), pod("b", ready=True)]
OLD = pod("old", ready=True, revision="old", made="2026-01-01T09:00:00Z")


def test_only_the_newest_revision_counts_even_where_its_pods_are_the_older_ones() -> None:
    assert is_of(NEW, ONLINE[0])
    assert not is_of(NEW, OLD)
    taken_back: dict[str, Any] = {"revision": "taken back", "made": "2026-01-01T11:00:00Z", **crashed(1, restarts=2)}
    assert judged(workload(), [*ONLINE, pod("x", **taken_back)]).result == "done"


@pytest.mark.parametrize(
    ("seen", "pods", "phase", "says"),
    [
        (workload(), ONLINE, "done", "2 of 2 online"),
        (workload(), [ONLINE[0], pod("b")], "running", "1 of 2 online"),
        (workload(updated=1), [ONLINE[0], OLD], "running", "1 of 2 online"),
        (workload(observedGeneration=2), ONLINE, "running", "2 of 2 online"),
        (
            workload() | {"status": {"observedGeneration": 3, "updatedReplicas": 2, "replicas": 3}},
            ONLINE,
            "running",
            "2 of 2",
        ),
        (workload(replicas=0, updated=0), [], "done", "0 of 0 online"),
    ],
)
def test_it_is_done_when_all_of_it_is_online_and_the_old_is_gone(
    seen: dict[str, Any], pods: list[dict[str, Any]], phase: str, says: str
) -> None:
    progress = judged(seen, pods)
    assert progress.result == phase
    assert progress.sentence.startswith(says)


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def crashed(code: int, *, restarts: int, message: str = "") -> dict[str, Any]:
    ended = {"terminated": {"exitCode": code, "message": message}}
    return {**waiting("CrashLoopBackOff"), "lastState": ended, "restartCount": restarts}


@pytest.mark.parametrize(
    ("app", "says"),
    [
        (waiting("ErrImagePull", "not found"), "The image of container app of pod n/a cannot be pulled: not found"),
        (waiting("CreateContainerConfigError", "no secret"), "Container app of pod n/a cannot be started: no secret"),
        (crashed(1, restarts=1), "Container app of pod n/a crashes again and again (exit code 1): one | two"),
        (
            crashed(3, restarts=0, message="noah: preStart /x failed\nline\n"),
            "preStart failed in container app of pod n/a: noah: preStart /x failed\nline",
        ),
    ],
)
def test_what_waiting_does_not_mend_is_named(app: dict[str, Any], says: str) -> None:
    progress = judged(workload(), [pod("a", **app), ONLINE[1]], {("a", "app"): ["one", "two"]})
    assert (progress.result, progress.sentence) == ("failed", says)


def test_one_crash_is_not_yet_a_failure() -> None:
    crashed_once: dict[str, Any] = {
        "state": {"running": {}},
        "lastState": {"terminated": {"exitCode": 1}},
        "restartCount": 1,
    }
    assert judged(workload(), [pod("a", **crashed_once)]).result == "running"


def test_until_there_are_new_pods_the_faults_of_the_old_ones_are_not_this_release_s() -> None:
    old = pod("old", revision="old", made="2026-01-01T09:00:00Z", **crashed(1, restarts=7))
    assert judged(workload(updated=0), [old]).result == "running"
    assert judged(workload(), [pod("new"), old]).result == "running"


def test_a_pod_that_is_to_be_ready_for_a_while_is_waited_for() -> None:
    patient = workload() | {"spec": {"replicas": 2, "minReadySeconds": 10}}
    assert judged(patient, ONLINE).result == "running"
    patient["status"]["availableReplicas"] = 2
    assert judged(patient, ONLINE).result == "done"


def kept(number: int, *, of: str = "u", mark: str | None = None) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": f"shop-{number}", "creationTimestamp": "2026-01-01T09:00:00Z"}
    meta["ownerReferences"] = [{"uid": of}]
    meta["annotations"] = {"deployment.kubernetes.io/revision": str(number)}
    meta["labels"] = {"pod-template-hash": mark} if mark else {}
    return {"metadata": meta}


def revised(kind: str = "Deployment", *, uid: str = "u") -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "shop", "namespace": "n", "uid": uid, "generation": 7}}


def test_a_rollback_is_a_revision_of_its_own_with_the_pods_of_an_old_one() -> None:
    first = revision_of("dev", revised(), [kept(1, mark="a"), kept(2, mark="b"), kept(9, of="another", mark="c")])
    assert (first.number, first.mark, first.generation) == ("2", "b", 7)
    back = revision_of("dev", revised(), [kept(3, mark="a"), kept(2, mark="b")])
    assert (back.number, back.mark) == ("3", "a")
    assert back.id != first.id


def test_a_stateful_set_marks_its_pods_with_the_name_of_the_revision() -> None:
    made = {**kept(0), "revision": 4}
    assert revision_of("dev", revised("StatefulSet"), [made]).mark == "shop-0"
    assert revision_of("dev", revised("StatefulSet"), [made]).number == "4"


def test_each_rollout_has_an_id_of_its_own_that_stays_the_same() -> None:
    def id_of(cluster: str = "dev", number: int = 3, **workload: str) -> str:
        made = kept(number, of=workload.get("uid", "u"))
        return revision_of(cluster, revised(**workload), [made]).id

    assert id_of() == id_of()
    others = [id_of("test"), id_of(number=4), id_of(uid="of its namesake"), id_of(kind="StatefulSet")]
    assert len({id_of(), *others}) == 5
    assert revision_of("dev", revised(), []).number == "0"


def test_a_pod_that_cannot_be_made_is_named_while_it_is_missing() -> None:
    refused = "exceeded quota: pods=0"
    assert judged(workload(), [], refused=refused).sentence == "A quota forbids its pods: exceeded quota: pods=0"
    assert judged(workload(), [], refused="denied").sentence == "Its pods cannot be made: denied"
    assert judged(workload(), [pod("a"), pod("b")], refused=refused).result == "running"


def late(mark: str) -> dict[str, Any]:
    message = f'ReplicaSet "shop-{mark}" has timed out progressing.'
    return {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": message}


def test_a_checkurl_that_never_passed_is_named_when_the_time_is_over() -> None:
    tails = {("a", "noah-preonline"): ["noah: waiting for checkurl: checkurl http://x answered 503"]}
    assert judged(workload(), [pod("a")], tails).result == "running"
    assert judged(workload(conditions=[late("taken-back")]), [pod("a")], tails).result == "running"
    for progress in (
        judged(workload(conditions=[late("new")]), [pod("a")], tails),
        judged(workload(), [pod("a")], tails, stalled=True),
    ):
        assert progress.sentence == "Pod n/a never came online: waiting for checkurl: checkurl http://x answered 503"


def test_a_pod_for_which_there_is_no_node_is_named_in_the_cluster_s_words() -> None:
    waits = pod("a")
    waits["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]
    assert judged(workload(), [waits], stalled=True).sentence == "Pod n/a never came online: 0/1 nodes are available"


def test_a_rollout_that_is_paused_goes_on() -> None:
    paused = workload(updated=1) | {"spec": {"replicas": 2, "paused": True}}
    assert judged(paused, [ONLINE[0], OLD]).sentence == "1 of 2 online, and the rollout is paused"


def stateful(*, updated: int, **strategy: Any) -> dict[str, Any]:
    rolling = workload(replicas=3, updated=updated, currentRevision="old", updateRevision="new")
    rolling["spec"]["updateStrategy"] = strategy
    return rolling | {"kind": "StatefulSet"}


def test_a_stateful_set_is_done_when_the_pods_are_online_that_it_is_to_replace() -> None:
    assert judged(stateful(updated=2, rollingUpdate={"partition": 1}), [*ONLINE, OLD]).sentence == "2 of 2 online"
    assert judged(stateful(updated=2, rollingUpdate={"partition": 1}), [*ONLINE, OLD]).result == "done"
    assert judged(stateful(updated=2), [*ONLINE, OLD]).result == "running"
    assert judged(stateful(updated=1, type="OnDelete"), [ONLINE[0], OLD]).result == "done"
    assert judged(stateful(updated=1, type="OnDelete"), [pod("a"), OLD]).result == "running"


def test_pods_that_a_partition_or_on_delete_leaves_alone_are_not_about_to_be_replaced() -> None:
    pods = [pod(f"shop-{n}", revision="old") for n in range(3)] + [pod("shop-3")]

    def replaced(workload: dict[str, Any]) -> list[str]:
        return [one["metadata"]["name"] for one in replaced_by(workload, NEW, pods)]

    assert replaced(workload()) == ["shop-0", "shop-1", "shop-2"]
    assert replaced(stateful(updated=1)) == ["shop-0", "shop-1", "shop-2"]
    assert replaced(stateful(updated=1, rollingUpdate={"partition": 2})) == ["shop-2"]
    later = stateful(updated=1, rollingUpdate={"partition": 1})
    later["spec"]["ordinals"] = {"start": 1}
    assert replaced(later) == ["shop-2"]
    assert replaced(stateful(updated=1, type="OnDelete")) == []
    pods[1]["metadata"]["deletionTimestamp"] = "2026-01-01T10:00:00Z"
    assert replaced(stateful(updated=1, type="OnDelete")) == ["shop-1"]
    pods[1]["status"]["phase"] = "Failed"
    assert replaced(stateful(updated=1, type="OnDelete")) == []


def test_a_log_read_again_from_its_last_second_gives_only_what_is_new() -> None:
    cursor = LogCursor()
    first = ["10:00:00.1", "10:00:00.3", "10:00:00.2", "10:00:00.2"]
    assert [cursor.is_new(f"2026-01-01T{at}Z") for at in first] == [True] * 4
    assert cursor.since == "2026-01-01T10:00:00"
    for more in (["10:00:00.25", "10:00:00.4", "10:00:00.39"], []):
        cursor.reconnected()
        known = first + ([] if more else ["10:00:00.25", "10:00:00.4", "10:00:00.39"])
        got = [cursor.is_new(f"2026-01-01T{at}Z") for at in known + more]
        assert got == [False] * len(known) + [True] * len(more)


def test_a_log_whose_beginning_is_gone_by_now_loses_nothing_more() -> None:
    cursor = LogCursor()
    for at in ("10:00:00.1", "10:00:00.2", "10:00:00.3"):
        cursor.is_new(at)
    cursor.reconnected()
    assert [cursor.is_new(at) for at in ("10:00:00.3", "10:00:00.4", "10:00:00.5")] == [False, True, True]
