"""Company research: names in, a table of facts out, each with its source."""
