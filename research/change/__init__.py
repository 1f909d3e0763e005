"""What a proposal changes: drafts, edits and diffs, read, made and compared. Pure."""
