"""Correlate layers with labels and with other layers, from sums over points."""
