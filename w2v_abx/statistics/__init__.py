"""Paired tests, intervals and corrections for ABX errors."""
