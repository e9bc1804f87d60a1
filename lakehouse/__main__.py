"""`python -m lakehouse` is the `lakehouse` command."""

from lakehouse.cli.app import main

main()
