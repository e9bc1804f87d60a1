"""Compute each layer from the one before it, as plain functions without Dagster."""
