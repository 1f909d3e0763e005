#!/usr/bin/env bash
# anthropic 2.14.0 (2.12.0 alike) with its own two retries, a timeout of 5 s, and a server that answers 429 with Retry-After: 3600.
#
# Behaviour: the client sleeps for the whole hour, inside of one call, and its timeout does not count that. Earlier generations
# (0.x) took what was above 60 s for no wait at all, and their own back-off of 8 s at most instead; today's bound is
# 4,294,967 s, fifty days. Whoever relies on timeout= has a worker that stands still. Way out: max_retries=0 and own retries.
#
# Seen with anthropic 2.14.0 on Python 3.11 (the sleeps are noted, not slept), beside 0.40.0:
#     anthropic 2.14.0 would sleep [3600.0, 3600.0]
#     anthropic 0.40.0 would sleep at most 8 s: True
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cat > "$here/try.py" <<'PY'
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import anthropic


class Busy(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(429)
        self.send_header("retry-after", "3600")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Busy)
threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
slept = []
time.sleep = slept.append
client = anthropic.Anthropic(api_key="none", base_url=f"http://127.0.0.1:{server.server_port}", timeout=5.0)
try:
    client.messages.create(model="m", max_tokens=10, messages=[{"role": "user", "content": "Hello"}])
except anthropic.RateLimitError:
    pass
if anthropic.__version__.startswith("0."):
    print(f"anthropic {anthropic.__version__} would sleep at most 8 s:", max(slept) <= 8)
    sys.exit(0 if len(slept) == 2 and max(slept) <= 8 else 1)
print(f"anthropic {anthropic.__version__} would sleep", slept)
sys.exit(0 if slept == [3600.0, 3600.0] else 1)
PY
for pins in "anthropic==2.14.0" "anthropic==0.40.0 httpx==0.27.2"; do
    python3 -m venv --clear "$here/venv"
    # shellcheck disable=SC2086  # two pins
    "$here/venv/bin/pip" install --quiet $pins
    NO_PROXY=127.0.0.1 "$here/venv/bin/python" "$here/try.py"
done
