"""Look-ups by key: copies of serving tables, indexed and served from memory-mapped files."""
