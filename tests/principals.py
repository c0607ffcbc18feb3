"""People for tests: whom a token of the gateway stands for."""

from noah.core.session.principal import OPERATORS, Principal, PrincipalKind


def person(name: str) -> Principal:
    """Somebody who may do everything."""
    return Principal(
        kind=PrincipalKind.TOKEN, issuer="", subject=name, name=name, groups=frozenset({OPERATORS}), proof="a test"
    )


ADA, BOB = person("ada"), person("bob")
