#!/usr/bin/env bash
# prometheus-client 0.26.0, Histogram.observe(float("nan")), as for the loss of a step that diverged.
#
# Behaviour: accepted without a word. The observation is in no bucket, the one for +Inf included, so the count misses it; and the sum is
# NaN from then on, for as long as the process lives: every average of it (rate of sum by rate of count) is gone for good, though all
# later values are fine. A Summary counts it, and its sum is NaN for good as well. Way out: test math.isnan first, count apart.
#
# Seen with prometheus-client 0.26.0 on Python 3.11 after observing 1.5, NaN, 1.5 (buckets 1, 2):
#     histogram: +Inf 2.0, count 2.0, sum NaN
#     summary: count 3.0, sum NaN
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet prometheus-client==0.26.0
cat > "$here/try.py" <<'PY'
import importlib.metadata
import math
import sys

from prometheus_client import CollectorRegistry, Histogram, Summary

print("prometheus-client", importlib.metadata.version("prometheus-client"))
registry = CollectorRegistry()
histogram = Histogram("loss_nats", "Loss of a step.", buckets=(1, 2), registry=registry)
summary = Summary("loss_seen", "The same.", registry=registry)
for value in (1.5, math.nan, 1.5):
    histogram.observe(value)
    summary.observe(value)


def number(name: str, **labels: str) -> float:
    found = registry.get_sample_value(name, labels)
    assert found is not None, name
    return found


top, count, total = number("loss_nats_bucket", le="+Inf"), number("loss_nats_count"), number("loss_nats_sum")
seen_count, seen_total = number("loss_seen_count"), number("loss_seen_sum")
print(f"histogram: +Inf {top}, count {count}, sum {total}")
print(f"summary: count {seen_count}, sum {seen_total}")
sys.exit(0 if (top, count, seen_count) == (2.0, 2.0, 3.0) and math.isnan(total) and math.isnan(seen_total) else 1)
PY
"$here/venv/bin/python" "$here/try.py"
