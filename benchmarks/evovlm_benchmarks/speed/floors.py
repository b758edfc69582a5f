"""The floors (hardware limits) that figures are compared with. Knows the machine's rates; no models.

A floor is bytes over the copy rate, or operations over the matrix rate: no implementation runs much faster.
"""

from __future__ import annotations

from evovlm.system.roofline import Rates, measure_rates, seconds_of, wall_seconds

__all__ = ["Rates", "measure_rates", "seconds_of", "wall_seconds"]
