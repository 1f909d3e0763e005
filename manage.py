#!/usr/bin/env python3
"""Django's commands, and ours: up, doctor, bootstrap, loginlink, worker."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - an old Python gets this far
        sys.exit("Countersign needs Python 3.11, 3.12 or 3.13; this is %d.%d." % sys.version_info[:2])  # noqa: UP031 - runs on old Pythons
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
    try:
        from django.core.management import execute_from_command_line
    except ModuleNotFoundError:
        sys.exit(
            "Nothing is installed for this Python. `make run` installs and starts; afterwards use .venv/bin/python."
        )
    read_settings()
    from django.db.utils import OperationalError, ProgrammingError

    try:
        execute_from_command_line(sys.argv)
    except BrokenPipeError:  # whoever reads, `| head` say, has read enough; nothing may be flushed into it at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as a shell counts it: 0, 1 and 2 are answers
    except (OperationalError, ProgrammingError) as problem:
        if "--traceback" in sys.argv:
            raise
        no_database(problem)


def no_database(problem: Exception) -> NoReturn:
    """2, never 1: that is the word of `gate` for blocked, and of `verify_audit` for a record that was changed."""
    where = "`make run` prepares the one that COUNTERSIGN_HOME or COUNTERSIGN_DATABASE_URL names."
    print(f"The database cannot be used: {str(problem).strip()}. {where}", file=sys.stderr)
    sys.exit(2)


def read_settings() -> None:
    """A wrong variable or a folder that cannot be written is the user's to mend: a sentence, not a traceback."""
    try:
        import webapp.settings  # noqa: F401 - read once here, used through django.conf
    except ValueError as problem:
        sys.exit(f"Countersign cannot run: {problem}")
    except OSError as problem:
        sys.exit(
            f"Countersign cannot run: {problem.filename}: {problem.strerror}. "
            "Set COUNTERSIGN_HOME to a folder that you can write."
        )


if __name__ == "__main__":
    main()
