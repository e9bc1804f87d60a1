"""The web page: its route handlers and static files. Its data comes from `api`."""
