"""The byte path: from an IDE's socket to a JVM's, past admission and an observer that cannot delay it."""
