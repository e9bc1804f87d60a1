"""Trace rows of a table back to the landing objects they were made of. What columns are made of is in `column_lineage`."""
