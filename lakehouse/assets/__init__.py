"""The asset graph: the functions of `pipeline` as Dagster assets with partitions, checks and metadata.

What a layer computes is in `pipeline`; when it runs is in `automation`.
"""

import warnings

import dagster as dg

# Backfill policies and partition mappings with offsets are beta, which is why Dagster's minor version is pinned.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
