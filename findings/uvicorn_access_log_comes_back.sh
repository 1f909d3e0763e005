#!/usr/bin/env bash
# uvicorn 0.54.0 with --no-access-log, and an application whose own logging.config.dictConfig names the logger "uvicorn".
#
# Behaviour: the access log is written all the same. dictConfig resets the children of every logger that it names: "uvicorn.access",
# from which uvicorn had taken handlers and propagation, propagates again; and uvicorn asks only access_logger.hasHandlers().
# Whoever keeps secrets in paths (login links) and relies on the switch has them in the log. Way out: name no logger
# "uvicorn" in the application's configuration, or name "uvicorn.access" as well, with "propagate": False and no handlers.
#
# Seen with uvicorn 0.54.0 and h11 0.16.0 on Python 3.11: without the configuration no line, with it one:
#     access lines without dictConfig: 0
#     access lines with dictConfig: 1
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet uvicorn==0.54.0 h11==0.16.0
cat > "$here/app.py" <<'PY'
import logging.config
import os

if os.environ["CONFIGURE"] == "1":
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
        "loggers": {"uvicorn": {"handlers": ["out"], "level": "INFO"}},
    })


async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
PY
cat > "$here/try.py" <<'PY'
import os
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))


def lines(configure: str, port: int) -> int:
    command = [sys.executable, "-m", "uvicorn", "app:app", "--no-access-log", "--lifespan", "off", "--port", str(port)]
    server = subprocess.Popen(
        command, cwd=HERE, env=os.environ | {"CONFIGURE": configure}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/a-path", timeout=5).read()
            break
        except OSError:
            time.sleep(0.1)
    server.terminate()
    said, _ = server.communicate(timeout=20)
    return sum("GET /a-path" in line for line in said.splitlines())


without, with_it = lines("0", 18763), lines("1", 18764)
print("access lines without dictConfig:", without)
print("access lines with dictConfig:", with_it)
sys.exit(0 if (without, with_it) == (0, 1) else 1)
PY
"$here/venv/bin/python" "$here/try.py"
