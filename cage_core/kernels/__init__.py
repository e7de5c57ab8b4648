"""The solver for one game as scalar loops, compiled by Numba where it is installed and plain Python elsewhere.

Everything in this package works in units of the agent's temperature (payoffs and reserves divided by it),
on games without impossible candidates, in float64.
"""
