"""`python -m lakehouse` is the `lakehouse` command."""

import os
import sys

# `python -m` searches the current folder first, where a file of any name could replace a library (CWE-427). The console
# script and `python -P` do not. `os` and `sys` are loaded before.
if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
    del sys.path[0]

from lakehouse.cli.app import main  # only now is the search path safe

main()
