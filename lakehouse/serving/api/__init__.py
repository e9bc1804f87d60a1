"""The serving process: HTTP routes over the lake for people and programs, and the application that holds them.

The gateway's own application is here too; see `sources.http` for the ingest routes and `query` for how SQL runs.
"""
