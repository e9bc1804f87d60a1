"""Run the HTTP server of a home in this process: `python -m lakehouse.serving.api.run_gateway`.

The application is named, not imported: `run_server` first sets up the shared counters and then loads it.
"""

import logging
import sys

from lakehouse.errors import LakehouseError
from lakehouse.settings import get_settings
from lakehouse.sources.http.run import run_server

APPLICATION = "lakehouse.serving.api.gateway:create_app"

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        run_server(get_settings(), APPLICATION)
    except LakehouseError as error:
        sys.exit(str(error))
