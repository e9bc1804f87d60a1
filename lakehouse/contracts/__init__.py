"""Contracts: the rules of a stream's events, and the SQL and the validator that are generated from them."""
