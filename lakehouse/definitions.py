"""The definitions that Dagster loads."""

from lakehouse.automation.build import build_definitions
from lakehouse.settings import get_settings

defs = build_definitions(get_settings())
