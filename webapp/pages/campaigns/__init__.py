"""Pages of campaigns: the list, and one campaign."""
