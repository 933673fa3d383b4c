"""Convscale's functions: models, losses, data, training, cost, sweeps and reports."""

from research import backend

backend.prepare()
