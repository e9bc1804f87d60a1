"""Tell how rare a value is, from the largest values of earlier blocks: the generalized extreme value distribution.

Hosking, Wallis and Wood, "Estimation of the generalized extreme-value distribution by the method of probability-weighted
moments", Technometrics 27 (1985).
"""

from dataclasses import dataclass
from math import gamma, log
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]

MIN_BLOCKS = 4
"""Blocks of history that a fit needs. Before, nothing is rare."""

PRIOR_SHAPE = 0.2
"""The shape that a short history is drawn to: tails a little heavier than exponential."""

PRIOR_BLOCKS = 30
"""How many blocks the prior shape weighs as much as."""

MAX_SHAPE = 0.5

SHORT_HISTORY_BLOCKS = 4
"""A scale that is fitted to n blocks is widened by this divided by n, because so few say little of what is normal."""

MIN_SCALE = 1e-9

MIN_RELATIVE_SCALE = 1e-3
"""The least scale as a share of the location, so that rounding is not rare in a history without any variation."""

MIN_PROBABILITY = 1e-30
LARGEST_EXPONENT = 80.0


@dataclass(frozen=True, slots=True)
class Extremes:
    """The distributions of block maxima of several statistics: location, scale and shape of each."""

    location: Floats
    scale: Floats
    shape: Floats

    def surprise(self, values: Floats) -> Floats:
        """Return -log10 of the probability that a block's maximum is at least each value, a row a statistic."""
        distance = (values - self.location[:, None]) / self.scale[:, None]
        shape = self.shape[:, None]
        exponent = np.clip(np.log1p(np.maximum(shape * distance, -0.999)) / shape, -3.0, LARGEST_EXPONENT)
        probability = -np.expm1(-np.exp(-exponent))
        rare: Floats = -np.log10(np.maximum(probability, MIN_PROBABILITY))
        return rare

    def value_at(self, statistic: int, surprise: float) -> float:
        """Return the value whose surprise is the given one; the inverse of `surprise`."""
        exponent = -log(-np.log1p(-(10.0**-surprise)))
        shape = float(self.shape[statistic])
        return float(self.location[statistic] + self.scale[statistic] * np.expm1(shape * exponent) / shape)


def fit_extremes(maxima: Floats, min_scales: Floats | float = 0.0) -> Extremes | None:
    """Fit block maxima, a row a statistic, by L-moments; None where there are too few blocks.

    No scale is less than that of `min_scales`.
    """
    blocks = maxima.shape[1]
    if blocks < MIN_BLOCKS:
        return None
    ordered = np.sort(maxima, axis=1).astype(np.float64)
    rank = np.arange(blocks)
    b0 = ordered.mean(axis=1)
    b1 = ordered @ (rank / (blocks * (blocks - 1)))
    b2 = ordered @ (rank * (rank - 1) / (blocks * (blocks - 1) * (blocks - 2)))
    spread = np.maximum(2 * b1 - b0, MIN_SCALE)
    skew = (6 * b2 - 6 * b1 + b0) / spread
    c = 2 / (3 + skew) - log(2) / log(3)
    fitted = -(7.859 * c + 2.9554 * c * c)
    shape = np.clip((fitted * blocks + PRIOR_SHAPE * PRIOR_BLOCKS) / (blocks + PRIOR_BLOCKS), 1e-3, MAX_SHAPE)
    gammas = np.array([gamma(1 - one) for one in shape])
    scale = -spread * shape / ((1 - 2**shape) * gammas)
    location = b0 - scale * (gammas - 1) / shape
    scale = np.maximum(scale * (1 + SHORT_HISTORY_BLOCKS / blocks), MIN_RELATIVE_SCALE * np.abs(location))
    scale = np.maximum(scale, min_scales)
    return Extremes(location, scale, shape)
