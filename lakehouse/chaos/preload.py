"""Preload the definitions in multiprocessing's fork server, from which `bench faults` forks its processes.

Importing this module leaves one thread, so that a fork is safe.
"""

from lakehouse.runtime.run_forker import load
from lakehouse.settings import get_settings

load(get_settings(), "lakehouse.definitions")
