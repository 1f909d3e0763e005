"""Asks an arm for drafts: whose turn it is, the brief, and what becomes of the answer."""
