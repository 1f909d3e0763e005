"""One gate a module, all of one shape: NAME, and check(Context) -> GateResult."""
