"""Extract an encoder's layers and read them by clip, frame or segment."""
