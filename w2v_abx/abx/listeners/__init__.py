"""Triplets that an experiment played to listeners: delta values of a model, and how they agree with the responses."""
