"""What is said of a stop agrees with what real JDI clients know, in random sessions of everything they do."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration.jdi.harness import Moment, build, debug, eclipse_classpath, is_of_the_jdk

pytestmark = [
    pytest.mark.jvm,
    pytest.mark.skipif(not all(map(shutil.which, ["java", "javac"])), reason="no JDK on this machine"),
]

MOST_LESS = 0.02  # of the moments, those in the JDK's own code apart


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jdi")
    build(folder)
    return folder


def judge(moments: Sequence[Moment], *, at_least: int) -> None:
    assert len(moments) >= at_least
    wrong = [moment for moment in moments if moment.verdict.startswith("wrong")]
    assert not wrong, wrong
    less = [moment for moment in moments if moment.verdict == "less" and not is_of_the_jdk(moment)]
    assert len(less) <= MOST_LESS * len(moments), less


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_is_said_of_a_stop_is_what_the_client_knows(built: Path, seed: int) -> None:
    session = await debug(built, seed=seed, moments=30)
    judge(session.moments, at_least=25)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("client", ["jdk", "eclipse"])
async def test_hundreds_of_moments_of_many_sessions_agree(built: Path, client: str) -> None:
    if client == "eclipse" and eclipse_classpath(built) is None:
        pytest.skip("mvn dependency:get -Dartifact=org.eclipse.jdt:org.eclipse.jdt.debug:3.21.500 brings Eclipse's JDI")
    moments: list[Moment] = []
    lost = 0
    for seed in range(100, 115):
        session = await debug(built, seed=seed, moments=60, client=client)
        moments += session.moments
        lost += session.lost is not None
    judge(moments, at_least=700)
    assert lost <= 3
