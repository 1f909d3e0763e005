"""Geometry of the static charts, and diffs as table rows. No database."""
