"""The serving process: what people and programs read of the lake over HTTP."""
