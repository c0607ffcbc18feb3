"""Releases as they happen: noticed, followed, streamed to watchers, and kept."""
