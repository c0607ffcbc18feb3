"""A manifest in, changes as values, a manifest out: how an app is prepared for debugging."""
