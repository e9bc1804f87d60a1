"""Contracts: the rules of a stream's events, and the SQL and the validator that are generated from them."""

from lakehouse.contracts.model import Contract, Field, FieldType, Retention
from lakehouse.contracts.odcs import load_contract

__all__ = ["Contract", "Field", "FieldType", "Retention", "load_contract"]
