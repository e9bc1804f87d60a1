"""Look-ups by key: computed from serving tables, published as objects, cached on this machine and served from memory maps."""
