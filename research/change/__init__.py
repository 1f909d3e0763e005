"""A proposal's change: drafts, edits and diffs, parsed, made and compared. Pure."""
