"""The shipped contracts have the fields, rules and retention of the design."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from lakehouse.contracts.model import Contract, Field

EVENT = "event_id*! string, event_time! timestamp"
FIELDS = {
    "iot": f"{EVENT}, device_id! string, site string, metric! string, value! double, unit string, firmware string",
    "clickstream": f"{EVENT}, session_id! string, user_id string, event_type! string, page_url! string,"
    " referrer string, device string, country string",
    "logs": f"{EVENT}, service! string, host string, level! string, message! string, trace_id string,"
    " status_code integer, latency_ms double",
    "social": f"{EVENT}, post_id! string, author_id! string, platform! string, action! string, text string,"
    " hashtags list, lang string, followers integer",
    "financial": f"{EVENT}, account_id! string, counterparty string, amount! decimal(18,2), currency! string,"
    " type! string, merchant string, country string, status! string",
    "retail": "invoice_no*! string, stock_code*! string, description* string, quantity*! integer,"
    " invoice_date*! timestamp, unit_price*! decimal(18,3), customer_id* integer, country* string",
    "orders": "order_id*! string, version*! integer, event_time! timestamp, op! string, customer_id! string,"
    " amount decimal(18,2), currency string, status string, channel string, country string",
}
RULES = {
    "iot": {"metric": "temperature|humidity|pressure|vibration|battery|other"},
    "clickstream": {"event_type": "page_view|click|search|add_to_cart|purchase"},
    "logs": {"level": "DEBUG|INFO|WARN|ERROR|FATAL", "latency_ms": ">=0"},
    "social": {"action": "post|like|share|comment", "followers": ">=0"},
    "financial": {
        "amount": ">0",
        "currency": "^[A-Z]{3}$",
        "type": "payment|transfer|withdrawal|deposit|refund",
        "status": "pending|settled|declined",
    },
    "retail": {"unit_price": ">=0"},
    "orders": {
        "op": "insert|update|delete",
        "amount": ">=0",
        "status": "created|paid|shipped|delivered|cancelled",
    },
}


def in_words(field: Field) -> str:
    return f"{field.name}{'*' if field.key else ''}{'!' if field.required else ''} {field.type}"


def rules(field: Field) -> str:
    limits = ["|".join(field.enum), field.pattern or ""]
    limits += [f">={field.minimum}" if field.minimum is not None else ""]
    limits += [f">{field.exclusive_minimum}" if field.exclusive_minimum is not None else ""]
    limits += [
        str(bound or "") for bound in (field.maximum, field.exclusive_maximum, field.min_length, field.max_length)
    ]
    return "".join(limits)


def test_seven_streams_are_shipped(folder: Path) -> None:
    assert folder.name in FIELDS
    assert {path.parent.name for path in folder.parent.glob("*/contract.odcs.yaml")} == set(FIELDS)


def test_fields_types_keys_and_required_are_those_of_the_design(contract: Contract) -> None:
    assert ", ".join(in_words(field) for field in contract.fields) == FIELDS[contract.stream]


def test_rules_are_those_of_the_design(contract: Contract) -> None:
    assert {field.name: rules(field) for field in contract.fields if rules(field)} == RULES[contract.stream]


def test_contract_is_valid_by_the_odcs_schema(folder: Path) -> None:
    content = yaml.safe_load((folder / "contract.odcs.yaml").read_text())
    from jsonschema import Draft201909Validator  # type: ignore[import-untyped]  # compiles a grammar for seconds

    schema = json.loads((files("open_data_contract_standard") / "schema.json").read_text())
    assert [error.message for error in Draft201909Validator(schema).iter_errors(content)] == []


def test_every_field_is_described(contract: Contract) -> None:
    assert [field.name for field in contract.fields if not field.description] == []
    assert contract.description
    assert contract.owner


@pytest.mark.parametrize("folder", ["retail"], indirect=True)
def test_retail_fields_have_source_headers(contract: Contract) -> None:
    assert [field.source for field in contract.fields] == (
        ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"]
    )
