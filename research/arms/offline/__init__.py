"""The proposer without a key: known ablations from ``catalogue.toml``, then random steps."""
