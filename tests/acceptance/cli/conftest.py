from collections.abc import AsyncIterator

import pytest

from tests.acceptance.cli.scripted_gateway import ScriptedGateway, scripted_gateway


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with scripted_gateway() as one:
        yield one
