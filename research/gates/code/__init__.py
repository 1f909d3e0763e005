"""The rules of the gate "code", and how it reads Python: names, calls, bindings, texts."""
