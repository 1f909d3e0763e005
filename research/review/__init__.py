"""What people do with a proposal: decide, edit, override, withdraw, and say what a score counts for."""
