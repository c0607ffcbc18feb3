"""Lengths of time as options."""

from datetime import timedelta

import click

from noah.duration import parse_duration


class _Length(click.ParamType[timedelta]):
    name = "length"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as e:
            self.fail(f"{e}.", param, ctx)


LENGTH = _Length()
