"""Directions in which classes differ: their angles, what collapsing them does, and analogies among them."""
