"""Decisions: values and plain functions of them. Standard library only; no await, no clock, no log."""
