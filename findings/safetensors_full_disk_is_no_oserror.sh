#!/usr/bin/env bash
# safetensors 0.8.0 and numpy 2.3.5 on a full disk, beside Python's own open() on the same one.
#
# Behaviour: save_file raises SafetensorError, which is an Exception of its own and no OSError: it has no errno, and `except
# OSError` around a checkpoint does not catch it. What failed stands in its words alone, as Rust writes it ("(os error 28)").
# numpy's save raises an OSError whose errno is None and whose words do not speak of a disk ("N requested and M written"); Python's
# write raises errno 28. So a trainer that tells a full disk from a mistake in the code by the class of the error, or by errno,
# takes the one for the other. Way out: read the number in the words, "(os error N)", and numpy's words; or try to write.
#
# Seen with safetensors 0.8.0 and numpy 2.3.5 on Python 3.11, on a file system of 64 KiB in memory (a user namespace's own):
#     safetensors: SafetensorError, OSError: False, errno: None: Error while serializing: I/O error: No space left on device (os error 28)
#     numpy: OSError, OSError: True, errno: None: 1048576 requested and 16352 written
#     open(): OSError, OSError: True, errno: 28: [Errno 28] No space left on device
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.3.5
cat > "$here/try.py" <<'PY'
import sys

import numpy as np
from safetensors.numpy import save_file

weights = np.zeros(1 << 20, dtype=np.float32)


def told(save) -> tuple[str, bool, int | None, str]:
    try:
        save()
    except Exception as error:
        return type(error).__name__, isinstance(error, OSError), getattr(error, "errno", None), str(error)
    sys.exit("nothing was raised: the disk was not full")


def write() -> None:
    with open(f"{sys.argv[1]}/weights.bin", "wb", buffering=0) as file:
        file.write(b"0" * 4_096)
        file.write(weights.tobytes())


asked = {
    "safetensors": lambda: save_file({"weights": weights}, f"{sys.argv[1]}/weights.safetensors"),
    "numpy": lambda: np.save(f"{sys.argv[1]}/weights.npy", weights),
    "open()": write,
}
found = {}
for who, save in asked.items():
    name, is_os_error, number, said = found[who] = told(save)
    print(f"{who}: {name}, OSError: {is_os_error}, errno: {number}: {said}")
expected = (
    found["safetensors"][:3] == ("SafetensorError", False, None)
    and "(os error 28)" in found["safetensors"][3]
    and found["numpy"][:3] == ("OSError", True, None)
    and "requested and" in found["numpy"][3]
    and found["open()"][:3] == ("OSError", True, 28)
)
sys.exit(0 if expected else 1)
PY
mkdir "$here/disk"
unshare --user --map-root-user --mount bash -c '
    mount -t tmpfs -o size=64k none "$1/disk" && exec "$1/venv/bin/python" "$1/try.py" "$1/disk"
' bash "$here"
