"""Run the serving process in the foreground: `python -m lakehouse.serving.api`. See `server` for starting one in the background."""

import logging
import sys

from lakehouse.errors import LakehouseError
from lakehouse.serving.api.run import run_server
from lakehouse.settings import get_settings

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("pyiceberg").setLevel(logging.WARNING)  # it logs every table it loads
    try:
        run_server(get_settings())
    except LakehouseError as error:
        sys.exit(str(error))
