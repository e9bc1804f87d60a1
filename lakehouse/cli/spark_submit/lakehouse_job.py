"""Run `lakehouse job` under spark-submit, which takes a file.

The folder has nothing else, because Python puts a script's folder before all others.
"""

import sys

from lakehouse.cli.app import main

if __name__ == "__main__":
    sys.argv[1:1] = ["job"]
    main()
