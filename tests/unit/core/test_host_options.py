"""Options files as people write them: the flags go in where they work, and come out byte for byte."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noah.core.host.options import NotEditable, debug_ports, flags_for, taken_back, with_flags

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
