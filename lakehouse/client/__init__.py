"""The Python client of the HTTP API: send events, query, look up, withdraw.

It imports no other room but errors, and Arrow, pandas and Polars at their first use, so that a program that only sends
starts quickly.
"""
