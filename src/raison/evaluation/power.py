"""Power: which difference of two paired rates a number of instances resolves. ValueError for a bad argument."""

import math

from scipy import special


def detectable_difference(n: int, discordance: float, *, level: float = 0.95, power: float = 0.8) -> float | None:
    """Give the difference of two paired rates that n instances resolve: (z_level + z_power) sqrt(discordance / n).

    `discordance` is the share of instances where the two differ. At level 0.95 and power 0.8 the factor is 1.96 + 0.84:
    12.5 points at n = 100 and discordance 0.2. None for n = 0.
    """
    factor = _power_factor(discordance, level, power)
    if n < 0:
        raise ValueError(f"n must be 0 or more, got {n}")
    return factor * math.sqrt(discordance / n) if n else None


def needed_instances(difference: float, discordance: float, *, level: float = 0.95, power: float = 0.8) -> int:
    """Give the least n at which `detectable_difference` is at most `difference`."""
    factor = _power_factor(discordance, level, power)
    if not 0 < difference <= 1:
        raise ValueError(f"difference must be above 0 and at most 1, got {difference}")
    return math.ceil(discordance * (factor / difference) ** 2 - 1e-9)


def _power_factor(discordance: float, level: float, power: float) -> float:
    for name, share in (("level", level), ("power", power)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must be inside (0, 1), got {share}")
    if not 0 <= discordance <= 1:
        raise ValueError(f"discordance must be in [0, 1], got {discordance}")
    return float(special.ndtri((1 + level) / 2) + special.ndtri(power))
