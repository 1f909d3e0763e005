"""Runs: all of them, and one as it happens."""
