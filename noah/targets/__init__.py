"""Ways to reach a JVM, one file each, the same few verbs (base.py)."""
