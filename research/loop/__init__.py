"""The loop: which event rings whom, the control worker's tasks, and repairs."""
