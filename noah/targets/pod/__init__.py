"""JVMs in pods, found through each cluster's informer and reached through a forwarder."""
