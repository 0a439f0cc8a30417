"""What an agent reads and calls: the guide, what makes sense next, and the MCP server."""
