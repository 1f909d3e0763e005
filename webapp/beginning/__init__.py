"""What page, command line and API share when a campaign begins or changes: one form, and what it says will follow."""
