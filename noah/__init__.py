"""The Noah debug gateway. Imports go downwards only; docs/architecture.md has the rooms, their layers and the words."""

__version__ = "0.1.0"
