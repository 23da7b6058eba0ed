"""A2A agents to try the bridge on: obliging ones built with the SDK, and hostile ones by hand."""
