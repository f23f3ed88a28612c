"""Where phones are in a clip: TextGrids, forced alignment, ABX item files."""
