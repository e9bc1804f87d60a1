"""Publish tables to warehouses, partition by partition, each version once. No Dagster here."""
