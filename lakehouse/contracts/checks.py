"""The checks that follow from a contract: what must hold of silver after a run."""

from collections.abc import Mapping

from lakehouse.contracts.model import Contract

BLOCKING = {"conservation", "unique_key", "required"}
"""Checks that block what is downstream, because it would be computed from wrong rows."""

_DESCRIPTIONS = {
    "conservation": "Every landed row is in silver, in quarantine or a duplicate: landed = silver + quarantined + duplicates.",
    "unique_key": "No two rows of a partition have the same key.",
    "required": "Required fields are never null.",
    "range": "Numbers are within the contract's bounds.",
    "accepted_values": "Fields with a list of values hold only those.",
    "quality_score": "The share of valid rows reaches the contract's threshold, so that the gate blocks no landing object.",
    "volume": "The partitions hold rows.",
    "columns": "No file has a misspelt column: one that the contract does not know, like a field that is in none of its rows.",
    "freshness": "The newest event is not older than the contract allows.",
}


def contract_checks(contract: Contract) -> Mapping[str, str]:
    """List the checks of a stream's silver table: a description of each by its name."""
    return {name: text for name, text in _DESCRIPTIONS.items() if _applies(name, contract)}


def _applies(name: str, contract: Contract) -> bool:
    if name == "range":
        bounds = (
            (field.minimum, field.maximum, field.exclusive_minimum, field.exclusive_maximum)
            for field in contract.fields
        )
        return any(bound is not None for of_field in bounds for bound in of_field)
    if name == "accepted_values":
        return any(field.enum for field in contract.fields)
    return name != "freshness" or contract.freshness is not None
