"""How a release goes, judged from what the API and the logs say."""

from typing import Any

import pytest

from noah.core.lines import Seen
from noah.core.release import identity_of, judge, pods_of_release


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


def test_only_the_newest_revision_counts() -> None:
    assert [p["metadata"]["name"] for p in pods_of_release([ONLINE[0], OLD])] == ["a"]
    assert pods_of_release([]) == []


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
    progress = judge(seen, pods, {})
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
    progress = judge(workload(), [pod("a", **app), ONLINE[1]], {("a", "app"): ["one", "two"]})
    assert (progress.result, progress.sentence) == ("failed", says)


def test_one_crash_is_not_yet_a_failure() -> None:
    crashed_once = {"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}, "restartCount": 1}
    assert judge(workload(), [pod("a", **crashed_once)], {}).result == "running"


def test_until_there_are_new_pods_the_faults_of_the_old_ones_are_not_this_release_s() -> None:
    old = pod("old", revision="old", made="2026-01-01T09:00:00Z", **crashed(1, restarts=7))
    assert judge(workload(updated=0), [old], {}).result == "running"
    assert judge(workload(observedGeneration=2), [old], {}).result == "running"
    assert judge(workload(), [pod("new"), old], {}).result == "running"


def test_a_pod_that_is_to_be_ready_for_a_while_is_waited_for() -> None:
    patient = workload() | {"spec": {"replicas": 2, "minReadySeconds": 10}}
    assert judge(patient, ONLINE, {}).result == "running"
    patient["status"]["availableReplicas"] = 2
    assert judge(patient, ONLINE, {}).result == "done"


def revised(kind: str = "Deployment", *, uid: str = "u", **more: Any) -> dict[str, Any]:
    meta = {"name": "shop", "namespace": "n", "uid": uid, "generation": 7, **more}
    return {"kind": kind, "metadata": meta, "spec": {}, "status": {"observedGeneration": 7}}


def numbered(revision: str) -> dict[str, Any]:
    return {"annotations": {"deployment.kubernetes.io/revision": revision}}


def test_each_rollout_has_an_id_of_its_own_that_stays_the_same() -> None:
    first = identity_of("dev", revised(**numbered("3")))
    assert first == identity_of("dev", revised(**numbered("3")))
    assert first[1] == "3"
    others = [
        identity_of("dev", revised(**numbered("4"))),
        identity_of("test", revised(**numbered("3"))),
        identity_of("dev", revised(uid="of its namesake", **numbered("3"))),
        identity_of("dev", revised("StatefulSet")),
    ]
    assert len({first[0], *(id for id, _ in others)}) == 5
    sets = revised("StatefulSet")
    sets["status"]["updateRevision"] = "shop-7c4d"
    assert identity_of("dev", sets)[1] == "7c4d"


def test_a_quota_is_named_though_there_is_no_pod() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods=0"}
    progress = judge(workload(conditions=[refused]), [], {})
    assert progress.sentence == "A quota forbids its pods: exceeded quota: pods=0"


def test_a_checkurl_that_never_passed_is_named_when_the_time_is_over() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    tails = {("a", "noah-preonline"): ["noah: waiting for checkurl: checkurl http://x answered 503"]}
    assert judge(workload(), [pod("a")], tails).result == "running"
    progress = judge(workload(conditions=[late]), [pod("a")], tails)
    assert progress.sentence == "Pod n/a never came online: waiting for checkurl: checkurl http://x answered 503"


def test_a_log_read_again_from_its_last_second_gives_only_what_is_new() -> None:
    seen = Seen()
    first = ["10:00:00.1", "10:00:00.2", "10:00:00.2"]
    assert [seen.is_new(at) for at in first] == [True, True, True]
    seen.reconnected()
    again = ["10:00:00.1", "10:00:00.2", "10:00:00.2", "10:00:00.2", "10:00:00.3"]
    assert [seen.is_new(at) for at in again] == [False, False, False, True, True]
