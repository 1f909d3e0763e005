raise ImportError(
    "this module of the standard library is hidden in the sandbox: its text may be held out (docs/data.md)"
)
