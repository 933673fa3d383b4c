"""Convscale's functions: models, losses, data, training, cost, sweeps and reports."""
