"""The database's server: towards it a gateway finds the address at which the others reach it."""

import pytest

from noah.store import Store


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql://noah@db.example.com/noah", "db.example.com"),
        ("postgresql://noah@db.example.com:6432/noah", "db.example.com"),
        ("postgresql://noah@[fd00::1]:5432/noah", "fd00::1"),
        ("postgresql://noah@/noah?host=one.example.com,two.example.com", "one.example.com"),
        ("postgresql://noah@/noah?host=one.example.com:5432&host=two.example.com:5432", "one.example.com"),
        ("postgresql://noah@/noah?host=/run/postgresql", "127.0.0.1"),
        ("postgresql:///noah", "127.0.0.1"),
    ],
)
async def test_the_first_server_of_the_database_is_found(url: str, host: str) -> None:
    store = Store.open(url)
    assert store.server_host == host
    await store.close()
