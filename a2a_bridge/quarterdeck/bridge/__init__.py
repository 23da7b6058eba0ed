"""The MCP server through which an AI client finds A2A agents, gives them work and follows it."""
