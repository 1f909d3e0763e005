"""What follows what, and the control worker that answers."""
