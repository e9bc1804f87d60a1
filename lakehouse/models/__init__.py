"""Read models: SELECTs over any tables, with a header, whose rows are kept as a table."""
