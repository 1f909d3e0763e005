"""Campaigns: all of them, and where one stands."""
