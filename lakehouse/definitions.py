"""The definitions that Dagster loads. See `automation.build` to build them for other settings."""

from lakehouse.automation.build import build_definitions
from lakehouse.settings import get_settings

defs = build_definitions(get_settings())
