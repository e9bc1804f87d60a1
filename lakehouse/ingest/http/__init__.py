"""The HTTP server that lands events durably. What is valid is the contracts' affair, names of objects landing's."""
