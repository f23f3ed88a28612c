"""Groups of frames, and how they agree with labels and with each other."""
