"""Pages of runs: the list, and one run, live."""
