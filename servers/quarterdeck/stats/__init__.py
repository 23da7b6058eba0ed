"""The stats MCP server: who is offline, how the traffic is, and how both have changed."""
