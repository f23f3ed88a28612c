"""What a decision rests on: gradients along a path, the spectrum that they are spread over, and attention."""
