"""Approved proposals become runs; workers claim them, report, and end them."""
