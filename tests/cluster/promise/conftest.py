"""Issue 10's promise, judged from outside: the kubelet counts restarts, the API server's audit log counts execs.

What takes minutes to watch is watched side by side, in one fixture of a file, and judged by a test per story.
"""
