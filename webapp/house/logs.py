"""How a log line is written: one line for one thing that happened, whoever made it happen.

A refusal (any answer of 400 to 499) is a line without a traceback: somebody asked for what they may not have. What
broke in the house keeps its traceback. Text from outside forges no line and turns no terminal around, and no line holds
what opens a door.
"""

from __future__ import annotations

import copy
import logging
import re

from research.change.visible import visible

# A login link's path, tokens of workers and agents, webhook secrets, Anthropic keys.
_SECRETS = re.compile(r"(/login/|\bBearer\s+|\bwhsec_|\bsk-ant-)[^\s/?#\"'\\]+")


class Line(logging.Formatter):
    """Time, level, logger, words; what goes on in further lines is indented, so that it cannot pass for a new one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(_as_refusal(record) if _is_refusal(record) else record)
        return without_secrets(visible(text)).replace("\n", "\n  ")


def write_as_we_do(*loggers: str) -> None:
    """Loggers that somebody else has set up keep their handlers, and get our lines."""
    for handler in [handler for name in loggers for handler in logging.getLogger(name).handlers]:
        handler.setFormatter(Line())


def without_secrets(text: str) -> str:
    return _SECRETS.sub(r"\1…", text)


def _is_refusal(record: logging.LogRecord) -> bool:
    """Django notes the answer's status on what it logs."""
    return 400 <= getattr(record, "status_code", 0) < 500


def _as_refusal(record: logging.LogRecord) -> logging.LogRecord:
    """A copy, since other handlers see the same record: at most a warning, with the reason in the traceback's place."""
    line = copy.copy(record)
    reason = str(record.exc_info[1]) if record.exc_info else ""
    line.msg, line.args = record.getMessage(), None
    if reason and reason not in line.msg:
        line.msg = f"{line.msg}: {reason}"
    line.exc_info = line.exc_text = line.stack_info = None
    line.levelno = min(record.levelno, logging.WARNING)
    line.levelname = logging.getLevelName(line.levelno)
    return line
