"""What the doctor says of a container, from what the forwarder found in it."""

from noah.core.forwarder import read_answer
from noah.targets.pod.doctor import Level, findings_inside

WAY = "socat in its container, by TCP"
LOOK = ("tool socat", "tool curl", "writable", "agent free", "jvms 1", "java 7 99", "done")


def said_of(*lines: str) -> dict[str, list[Level]]:
    found: dict[str, list[Level]] = {}
    for finding in findings_inside(read_answer(lines), "container app of pod team-a/shop", 50005, way=WAY):
        found.setdefault(finding.check, []).append(finding.level)
    return found


def test_a_container_with_all_that_it_takes_is_well() -> None:
    assert {level for levels in said_of(*LOOK).values() for level in levels} == {Level.OK}


def test_a_full_dev_shm_is_not_said_to_be_writable() -> None:
    assert said_of(*(line for line in LOOK if line != "writable"))["report"] == [Level.ERROR]


def test_two_jvms_are_said_with_the_one_that_is_meant() -> None:
    lines = [line.replace("jvms 1", "jvms 2") for line in LOOK]
    assert said_of(*lines)["java"] == [Level.OK, Level.WARNING]
    [warning] = [
        finding.message
        for finding in findings_inside(read_answer(lines), "container app of pod team-a/shop", 50005, way=WAY)
        if finding.level is Level.WARNING
    ]
    assert warning.startswith(
        "2 JVMs run in container app of pod team-a/shop: a session is on the one that has port 50005"
    )


def test_what_a_container_says_beside_the_lines_is_left_out() -> None:
    noise = (
        "java x y",
        "jvms many",
        "java-age -1",
        "forwarder a b c",
        "agent asleep",
        "\x1b[31m",
        "jvms 9999999999999999999",
    )
    answer = read_answer([*noise, *LOOK])
    assert (answer.java, answer.jvms, answer.forwarder_port) == (7, 1, None)
