"""The arms that propose: Claude, and the offline catalogue that needs no key. Pure, with one interface."""
