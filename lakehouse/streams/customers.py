"""The answer of the look-up `customers`, which joins two of the package's streams. See `serving.lookups.shipped` for its SQL."""

from typing import Any

import msgspec


class CustomerHistory(msgspec.Struct):
    """A customer's history in retail and orders."""

    id: str
    invoices: int
    """Invoices in retail, including cancellations."""
    orders: int
    """Orders in their latest state, without deleted ones."""
    revenue: str
    """The net revenue of all retail lines, a decimal."""
    first_seen: str | None
    """The first retail line or order change, UTC."""
    last_seen: str | None
    recent_lines: list[dict[str, Any]]
    """The newest ten retail lines, the newest first."""
    recent_orders: list[dict[str, Any]]
    """The newest ten orders, the newest first."""
    retail: dict[str, Any] | None
    """Everything in retail; null where retail does not have the customer."""
    order_history: dict[str, Any] | None
    """Everything in orders; null where orders does not have the customer."""
