"""What one machine is, what it can do, and how it fails."""
