"""The type of options that take a duration: 90s, 45m, 2h."""

from datetime import timedelta

import click

from noah.duration import parse_duration


class _DurationType(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as e:
            self.fail(f"{e}.", param, ctx)


DURATION = _DurationType()
