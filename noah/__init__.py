"""The Noah debug gateway. Imports go downwards only:

cli        the command line; all but serve, demo and inject speak HTTP to a gateway
demo       the story that it exists for, with real parts
app        wiring: settings -> engine, clusters, broker, site; the order of start and stop
web        the HTTP API, the event stream, the pages
broker     the live sessions: one task each: look, decide, act
targets    ways to reach a JVM: pod, host, local
kube       Kubernetes: clusters, informer, exec; the only code that knows a kubeconfig
proxy      the byte path between an IDE and a JVM
store      the tables and every statement that touches them
feed       numbered events
core       decisions: plain functions and values, standard library only
settings   one typed tree, read from config/ and the environment
errors     what a developer may be shown
inpod      what runs in somebody else's container: POSIX sh
"""

__version__ = "0.1.0"
