"""Write a contract as ODCS v3 YAML, with comments. See `odcs` for how it is read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from lakehouse.contracts.model import DEFAULT_HISTORY_START, Contract, Field

_WIDTH = 1 << 20
"""No line is folded."""


def contract_yaml(
    contract: Contract, comments: Mapping[str, Sequence[str]], sensitive: Mapping[str, str], heading: Sequence[str] = ()
) -> str:
    """Write a contract. `comments` are those of fields, and `sensitive` fields are classified, with the kind of data."""
    head = {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": f"lakehouse-{contract.stream}",
        "name": contract.stream,
        "version": contract.version,
        "status": "active",
        "description": {"purpose": contract.description},
    }
    blocks = [_comments(heading) + _yaml({name: value for name, value in head.items() if value != {"purpose": ""}})]
    blocks.append(
        f"schema:\n  - name: {contract.stream}\n    logicalType: object\n    physicalType: table\n    properties:\n"
        + "".join(
            _property(field, number, comments.get(field.name, ()), sensitive) for number, field in _keyed(contract)
        )
    )
    blocks.append(_yaml({"customProperties": [*_custom_properties(contract)]}))
    return "\n".join(blocks)


def _keyed(contract: Contract) -> Iterator[tuple[int, Field]]:
    """Yield each field with its position in the key, 0 outside of it."""
    position = 0
    for field in contract.fields:
        position += field.key
        yield position if field.key else 0, field


def _property(field: Field, key_position: int, comments: Sequence[str], sensitive: Mapping[str, str]) -> str:
    if kind := sensitive.get(field.name):
        comments = [*comments, f"may be personal data: {kind}"]
    options = {
        "format": [form.text for form in field.format]
        if len(field.format) > 1
        else next((f.text for f in field.format), None),
        "defaultTimezone": field.default_timezone,
        "pattern": field.pattern,
        "minLength": field.min_length,
        "maxLength": field.max_length,
        "minimum": field.minimum and str(field.minimum),
        "maximum": field.maximum and str(field.maximum),
    }
    options = {name: value for name, value in options.items() if value is not None}
    written: dict[str, Any] = {
        "name": field.name,
        "physicalName": field.source if field.source != field.name else None,
        **_type(field),
        "required": field.required or None,
        "primaryKey": bool(key_position) or None,
        "primaryKeyPosition": key_position or None,
        "classification": "restricted" if kind else None,
        "enum": [{"value": value} for value in field.enum] or None,
        "logicalTypeOptions": options or None,
    }
    text = _comments(comments) + _yaml([{name: value for name, value in written.items() if value is not None}])
    return "".join(f"      {line}\n" for line in text.splitlines())


def _type(field: Field) -> dict[str, Any]:
    match field.type.kind:
        case "double" | "decimal":
            return {"logicalType": "number", "physicalType": str(field.type)}
        case "list":
            return {"logicalType": "array", "items": {"logicalType": "string"}}
        case kind:
            return {"logicalType": kind}


def _custom_properties(contract: Contract) -> Iterator[dict[str, Any]]:
    yield {"property": "eventTime", "value": contract.event_time}
    if contract.history_start != DEFAULT_HISTORY_START:
        yield {"property": "historyStart", "value": contract.history_start.isoformat()}
    if options := contract.dialect.options():
        yield {"property": "dialect", "value": options}


def _comments(lines: Sequence[str]) -> str:
    return "".join(f"# {line}\n" for text in lines for line in text.splitlines())


def _yaml(value: object) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=_WIDTH))
