"""Live debug sessions: the broker that people ask, and one task per session."""
