"""What is decided from time, readings, and the work done in between: nothing in here knows a clock or a device."""
