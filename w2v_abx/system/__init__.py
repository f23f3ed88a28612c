"""What the machine offers, and how files, locks, downloads and settings are dealt with everywhere alike."""
