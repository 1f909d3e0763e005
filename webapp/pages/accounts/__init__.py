"""Signing in, one-time links, and who is counted at the turnstile."""
