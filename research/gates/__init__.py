"""The gates: checks before a person looks. ``process`` runs them in order; the last is a smoke run."""
