#!/usr/bin/env bash
# anthropic 2.14.0 (2.12.0 alike): messages.create, annotated to give a Message, answered with 200 and text/html, as by a proxy's
# maintenance or sign-in page.
#
# Behaviour: no error. The caller gets the page as a str, and fails where it reads .content or .usage, far from the cause; a
# try/except anthropic.APIError around the call sees nothing. Way out: read the body yourself (with_raw_response,
# with_streaming_response), or check isinstance(message, anthropic.types.Message).
#
# Seen with anthropic 2.14.0 on Python 3.11:
#     type of the answer: str
#     an attribute of it: AttributeError: 'str' object has no attribute 'content'
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet anthropic==2.14.0
cat > "$here/try.py" <<'PY'
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import anthropic

PAGE = b"<!DOCTYPE html><html><title>Back soon</title></html>"


class Proxy(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Proxy)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = anthropic.Anthropic(api_key="none", base_url=f"http://127.0.0.1:{server.server_port}")
question = [{"role": "user", "content": "Hello"}]
answer = client.messages.create(model="claude-opus-5-5", max_tokens=10, messages=question)
print("type of the answer:", type(answer).__name__)
try:
    print("an attribute of it:", answer.content)
except AttributeError as error:
    print("an attribute of it: AttributeError:", error)
sys.exit(0 if type(answer) is str else 1)
PY
NO_PROXY=127.0.0.1 "$here/venv/bin/python" "$here/try.py"
