"""What a stream's events must be: the contract, and the SQL and schemas that are generated from it."""

from lakehouse.contracts.model import Contract, Field, FieldType, Retention
from lakehouse.contracts.odcs import load_contract

__all__ = ["Contract", "Field", "FieldType", "Retention", "load_contract"]
