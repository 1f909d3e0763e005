"""Loaded by pytest before Django's settings (``-p tests.home``): nothing of the developer's own is read or written."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

DATABASE_URL = os.environ.get("TEST_DATABASE_URL", "")  # empty: SQLite in memory
HOME = tempfile.mkdtemp(prefix="countersign-tests-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

for name in list(os.environ):
    if name.startswith(("COUNTERSIGN_", "ANTHROPIC_")):
        del os.environ[name]
os.environ["COUNTERSIGN_HOME"] = HOME
os.environ["COUNTERSIGN_DATABASE_URL"] = DATABASE_URL
os.environ["COUNTERSIGN_SECRET_KEY"] = "only for tests"
os.environ["COUNTERSIGN_AUDIT_KEY"] = "only for tests, too"

# A shell that starts something in the background has it ignore Ctrl+C, and whatever we start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
