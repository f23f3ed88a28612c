"""Timed labels: item files, TextGrids, and the frames that belong to an interval of time."""
