"""The kubectl MCP server: what is wrong in a cluster, and changes to it under a grant."""
