"""How people and programs read the lake: SQL over every table, without leave to change anything."""
