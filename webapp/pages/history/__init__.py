"""A campaign's past experiments: what other loops tried, imported as precedents."""
