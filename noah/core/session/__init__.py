"""A debug session as values: what was asked for, what is true, what to do next."""
