"""What analyses have found, one renderer each."""
