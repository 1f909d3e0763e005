"""Who proposes: Claude, and the offline catalogue that needs no key. Pure, and of one shape."""
