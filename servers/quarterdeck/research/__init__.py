"""Research of companies: search, pages, data to a schema with the passages that it rests on."""
