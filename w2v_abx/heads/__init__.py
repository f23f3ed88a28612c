"""What is asked of an encoder: losses with their own parameters."""
