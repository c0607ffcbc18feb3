"""`noah demo`: a real debugger, a real JVM, and what a kubelet's probe does to it, with and without Noah."""
