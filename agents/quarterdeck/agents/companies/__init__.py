"""Research of companies in batches: four worker agents, and the coordinator that gives them their work."""
