"""What people open in a browser: one folder a page, and what pages share."""
