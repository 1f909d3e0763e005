"""One gate a module, all with one interface: NAME, and check(Context) -> Found."""
