"""Commands in containers through the exec API: run, held, or as a connection."""
