"""How the gate of code reads Python: names, calls, bindings and words, and what is refused of them."""
