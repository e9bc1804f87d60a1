"""Serving: everything that reads the lake for people and programs, over HTTP or in Python. Nothing here changes a table."""
