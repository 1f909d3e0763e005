"""Asking an arm: whose turn it is, what it is told, and what becomes of its answer."""
