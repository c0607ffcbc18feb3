"""Options files as people write them: the flags go in where they work, and come out byte for byte."""

import contextlib
import subprocess
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noah.core.host.assignments import NotEditable
from noah.core.host.options import debug_ports, flags_for, taken_back, with_flags

FLAGS = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:50005,quiet=y"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'JAVA_OPTS="-Xmx1g"\n', b'JAVA_OPTS="F -Xmx1g"\n'),
        (b"JAVA_OPTS='-Xmx1g'\n", b"JAVA_OPTS='F -Xmx1g'\n"),
        (b'JAVA_OPTS=""\n', b'JAVA_OPTS="F"\n'),
        (b"JAVA_OPTS=\n", b'JAVA_OPTS="F"\n'),
        (b"JAVA_OPTS=-Xmx1g\n", b'JAVA_OPTS="F -Xmx1g"\n'),
        (b"JAVA_OPTS=-Xmx1g; export JAVA_OPTS\n", b'JAVA_OPTS="F -Xmx1g"; export JAVA_OPTS\n'),
        (b"JAVA_OPTS=-Xmx1g -Da=b\n", b'JAVA_OPTS="F -Xmx1g -Da=b"\n'),  # systemd's, without quotes
        (b"JAVA_OPTS=-Xmx1g  # a lot\n", b'JAVA_OPTS="F -Xmx1g"  # a lot\n'),
        (b'  export JAVA_OPTS="$JAVA_OPTS -Da"\r\n', b'  export JAVA_OPTS="F $JAVA_OPTS -Da"\r\n'),
        (b'JAVA_OPTS="-a"\nJAVA_OPTS="$JAVA_OPTS -b"', b'JAVA_OPTS="-a"\nJAVA_OPTS="F $JAVA_OPTS -b"'),
        (b'JAVA_OPTS="-a"\nJAVA_OPTS+=" -b"\n', b'JAVA_OPTS="-a"\nJAVA_OPTS+=" F  -b"\n'),
        (b'#JAVA_OPTS="-a"\nMY_JAVA_OPTS="-b"\n', b'#JAVA_OPTS="-a"\nMY_JAVA_OPTS="-b"\nJAVA_OPTS="F"\n'),
        (b'JAVA_OPTS="-a \\\n  -b"\n', b'JAVA_OPTS="F -a \\\n  -b"\n'),
        (b"A=caf\xe9", b'A=caf\xe9\nJAVA_OPTS="F"\n'),
        (b"A=1\r\n", b'A=1\r\nJAVA_OPTS="F"\r\n'),
        (b"", b'JAVA_OPTS="F"\n'),
    ],
)
def test_the_flags_go_into_the_last_assignment(before: bytes, after: bytes) -> None:
    edited = with_flags(before, "JAVA_OPTS", FLAGS)
    assert edited == after.replace(b"F", FLAGS.encode(), 1)
    assert taken_back(edited, before=before, after=edited) == before


@pytest.mark.parametrize("text", [b'JAVA_OPTS=("-a" "-b")\n', b'JAVA_OPTS=-Da="x y"\n', b"JAVA_OPTS=-Da=`date`\n"])
def test_what_cannot_be_edited_for_sure_is_refused(text: bytes) -> None:
    with pytest.raises(NotEditable):
        with_flags(text, "JAVA_OPTS", FLAGS)


@pytest.mark.parametrize(
    "text",
    ['JAVA_OPTS="-Xmx1g -Da=b"', "JAVA_OPTS='-Da=$x'", "JAVA_OPTS=-Xmx1g", "JAVA_OPTS=", "B=1", "export JAVA_OPTS="],
)
def test_a_shell_reads_the_flags_and_all_that_was_there(text: str) -> None:
    def read(content: str) -> list[str]:
        script = content + '\nset -f; printf "%s\\n" $JAVA_OPTS'
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split()

    assert read(with_flags(text.encode(), "JAVA_OPTS", FLAGS).decode()) == [FLAGS, *read(text)]


def value_in_a_shell(content: str) -> list[str]:
    script = content + '\nset -f; printf "%s\\n" $JAVA_OPTS'
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, env={"JAVA_OPTS": "-Dfrom=env"}
    )
    return done.stdout.split()


SHAPES = [
    'export TZ=UTC JAVA_OPTS="-Xmx96m -Dsite=blue"',
    'TZ=UTC JAVA_OPTS="-Xmx96m"',
    "declare -x JAVA_OPTS='-Xmx96m'",
    "readonly JAVA_OPTS=-Xmx96m",
    ': ${JAVA_OPTS:="-Xmx96m"}',
    "if true; then JAVA_OPTS=-Xmx96m; fi",
    "if true; then\n  JAVA_OPTS=-Xmx96m\nfi",
    'JAVA_OPTS="-a"\nif true; then\n  JAVA_OPTS="$JAVA_OPTS -b"\nfi',
    'JAVA_OPTS="-a"\n[ -n "$HOME" ] || JAVA_OPTS="${JAVA_OPTS} -b"',
    'JAVA_OPTS="-a"\ntrue && JAVA_OPTS="-b"',
    "case x in\nx) JAVA_OPTS=-Xmx96m ;;\nesac",
    "set_options() { JAVA_OPTS=-Xmx96m; }\nset_options",
    "set_options()\n{\nJAVA_OPTS=-Xmx96m\n}\nset_options",
    'BANNER="\nJAVA_OPTS=-no\n"\nJAVA_OPTS="-a"',
    "read JAVA_OPTS <<EOF\n-Xmx96m\nEOF",
    "cat > /dev/null <<EOF\nJAVA_OPTS=-Xmx96m\nEOF",
    'eval "JAVA_OPTS=-Xmx96m"',
    "printf -v JAVA_OPTS %s -Xmx96m",
    "JAVA_OPTS=-a\nunset JAVA_OPTS",
    "JAVA_OPTS=-Da='x y'",
    "JAVA_OPTS=$'-Da=b'",
    'JAVA_OPTS=-Da=$(echo "x")',
    'JAVA_OPTS="-Da=$(echo ")")"',
    "JAVA_OPTS=~/x",
    "JAVA_OPTS=(-a -b)",
    "JAVA_OPTS[0]=-a",
    "JAVA_OPTS=\"-a\"'-b'",
    "JAVA_OPTS=-a; JAVA_OPTS=$JAVA_OPTS:-b",
    "JAVA_OPTS=-Xmx96m /bin/true",
    "OTHER=1\nJAVA_OPTS=-Xmx96m ls -l",
    'for i in 1 2; do JAVA_OPTS="$JAVA_OPTS -D$i"; done',
    "( JAVA_OPTS=-a )",
    "JAVA_OPTS=-a & wait",
    ". /dev/null",
    "source /dev/null",
    'MINE="$JAVA_OPTS -b"',
    'echo "JAVA_OPTS is set" > /dev/null; JAVA_OPTS=-a',
    "export JAVA_OPTS",
    "JAVA_OPTS=-a # JAVA_OPTS=-b\nexport JAVA_OPTS",
    "unset A\nJAVA_OPTS=",
    "JAVA_OPTS=\\\n-Xmx96m",
    "export JAVA_OPTS=`echo -a`",
]


@pytest.mark.parametrize("content", SHAPES)
def test_no_assignment_of_a_shell_is_shadowed_or_lost(content: str) -> None:
    try:
        edited = with_flags(content.encode(), "JAVA_OPTS", FLAGS).decode()
    except NotEditable:
        return
    before, after = value_in_a_shell(content), value_in_a_shell(edited)
    assert sorted(after) == sorted([FLAGS, *before])
    assert taken_back(edited.encode() + b"# more\n", before=content.encode(), after=edited.encode())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (': ${JAVA_OPTS:="-a"}', r'not understood \(line 1\): put JAVA_OPTS="..." on a line of its own'),
        ("A=1\nif true; then\nJAVA_OPTS=-a\nfi", "only sometimes"),
        ("A=1\n. /etc/default/all", r"reads another file \(line 2\)"),
        ("cat <<EOF\nEOF", "here-document"),
        ('MINE="$JAVA_OPTS -b"', "is used there and not set"),
    ],
)
def test_a_refusal_says_where_and_what_to_do(content: str, says: str) -> None:
    with pytest.raises(NotEditable, match=says):
        with_flags(content.encode(), "JAVA_OPTS", FLAGS)


@pytest.mark.parametrize(
    ("content", "after"),
    [
        ('export TZ=UTC JAVA_OPTS="-Xmx96m"', 'export TZ=UTC JAVA_OPTS="F -Xmx96m"'),
        ('JAVA_OPTS="-a"\n[ x ] && JAVA_OPTS="$JAVA_OPTS -b"', 'JAVA_OPTS="F -a"\n[ x ] && JAVA_OPTS="$JAVA_OPTS -b"'),
        ("MSG=it's on\nJAVA_OPTS=-Xmx1g -cp\n", 'MSG=it\'s on\nJAVA_OPTS="F -Xmx1g -cp"\n'),
    ],
)
def test_what_is_understood_is_changed_where_it_stands(content: str, after: str) -> None:
    assert with_flags(content.encode(), "JAVA_OPTS", FLAGS).decode() == after.replace("F", FLAGS, 1)


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda text: text + "B=2\n", "A=1\nB=2\n"),  # an assignment of ours hides nothing afterwards
        (lambda text: text.replace('quiet=y"', 'quiet=y -Xmx2g"'), 'A=1\nJAVA_OPTS="-Xmx2g"\n'),
        (lambda text: text + "#" + text.splitlines()[-1] + "\n", None),
        (lambda text: text + text.splitlines()[-1] + "\n", "A=1\n"),
    ],
)
def test_a_later_change_survives_and_no_flag_stays_in_force(change: Callable[[str], str], left: str | None) -> None:
    before = b"A=1\n"
    after = with_flags(before, "JAVA_OPTS", FLAGS)
    back = taken_back(change(after.decode()).encode(), before=before, after=after)
    assert debug_ports(back) == set[int]()
    assert left is None or back.decode() == left


def test_a_file_as_long_as_hosts_allow_is_read_at_once() -> None:
    began = time.perf_counter()
    for line in ('A="$(echo x)" # JAVA_OPTS\n', "(", "case x in x) A=1;; esac\n", '"${A}"', "JAVA_OPTS=-a\n"):
        with contextlib.suppress(NotEditable):
            with_flags((line * (65536 // len(line))).encode(), "JAVA_OPTS", FLAGS)
    assert time.perf_counter() - began < 10


@given(
    st.binary(max_size=200), st.sampled_from([b'JAVA_OPTS="-a"', b"JAVA_OPTS=-a", b"JAVA_OPTS=''", b""]), st.binary()
)
def test_whatever_stands_around_it_comes_back_byte_for_byte(head: bytes, line: bytes, tail: bytes) -> None:
    before = head + b"\n" + line + b"\n" + tail
    try:
        after = with_flags(before, "JAVA_OPTS", FLAGS)
    except NotEditable:
        return
    assert after.count(FLAGS.encode()) == before.count(FLAGS.encode()) + 1
    assert taken_back(after, before=before, after=after) == before


@pytest.mark.parametrize("flags", [FLAGS, flags_for(set(), 50005)])
def test_what_others_changed_meanwhile_stays_and_only_the_flags_go(flags: str) -> None:
    before = b'A=1\nJAVA_OPTS="-Xmx1g"\n'
    after = with_flags(before, "JAVA_OPTS", flags)
    changed = after.replace(b"-Xmx1g", b"-Xmx2g") + b"B=2\n"
    assert taken_back(changed, before=before, after=after) == b'A=1\nJAVA_OPTS="-Xmx2g"\nB=2\n'
    assert taken_back(b"all new\n", before=before, after=after) == b"all new\n"
    assert taken_back(before, before=before, after=after) == before


@pytest.mark.parametrize(
    ("versions", "modern"),
    [
        ({"17.0.11"}, True),
        ({"9"}, True),
        ({"1.8.0_392"}, False),
        ({"17.0.11", "1.8.0_392"}, False),
        ({"21-ea"}, True),
        ({"-"}, False),
        (set[str](), False),
    ],
)
def test_the_spelling_is_one_that_all_the_jvms_know(versions: set[str], modern: bool) -> None:
    assert ("-agentlib:" in flags_for(versions, 50005)) is modern
    assert "address=127.0.0.1:50005" in flags_for(versions, 50005)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        (b'JAVA_OPTS="-Xmx1g"', set[int]()),
        (b'# JAVA_OPTS="-agentlib:jdwp=address=5005"', set[int]()),
        (b'JAVA_OPTS="-agentlib:jdwp=transport=dt_socket,address=*:5005"', {5005}),
        (b'JAVA_OPTS="-Xdebug -Xrunjdwp:transport=dt_socket,address=8000"', {8000}),
        (b"A='-agentlib:jdwp=server=y'", {0}),
    ],
)
def test_flags_that_are_there_are_found_with_their_port(text: bytes, ports: set[int]) -> None:
    assert debug_ports(text) == ports
