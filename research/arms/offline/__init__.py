"""The proposer that needs no key: known ablations from ``catalogue.toml``, then random steps."""
