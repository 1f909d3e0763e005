"""Experiments that were run elsewhere, before this record: reads what other loops and trackers left. Pure."""
