"""What people do with a proposal: decide, edit, override, withdraw, settle a quarantined score.

Also the agents' verbs.
"""
