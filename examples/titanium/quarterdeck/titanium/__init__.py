"""A system to practise on: services, a balancer, and a stateful Kubernetes API, all in one process on loopback."""
