"""Before a campaign starts: what is known of its machines and data, what it will cost, and whether it can run."""
