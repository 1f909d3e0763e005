"""Accounts: signing in, one-time links, and limits on password tries."""
