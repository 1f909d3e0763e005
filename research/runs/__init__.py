"""Runs: approved proposals become runs; workers claim them, report on them, and end them."""
