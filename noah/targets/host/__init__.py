"""JVMs on KVM hosts, reached by SSH."""
