"""People for tests: whom a token of the gateway stands for."""

from noah.core.session.principal import Principal, PrincipalKind


def person(name: str, *groups: str) -> Principal:
    return Principal(
        kind=PrincipalKind.TOKEN, issuer="", subject=name, name=name, groups=frozenset(groups), proof="a test"
    )


ADA, BOB = person("ada"), person("bob")
