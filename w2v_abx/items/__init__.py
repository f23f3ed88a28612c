"""Item files, TextGrids and timed labels; no torch."""
