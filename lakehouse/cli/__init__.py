"""The `lakehouse` command: one module a command or group of commands. `app` lists them, `options` holds shared options."""
