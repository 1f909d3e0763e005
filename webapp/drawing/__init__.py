"""Geometry of the charts that do not stream, and diffs as rows of a table. No database."""
