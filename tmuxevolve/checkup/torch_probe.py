"""Says on stdout which Python this is, and what its PyTorch sees. Run by the trainer's Python.

    python -c "$(cat torch_probe.py)" torch

Standard library only, and for any Python 3. It counts GPUs and makes no context on one.
"""

import json
import sys

found: "dict[str, object]" = {"version": sys.version.split()[0], "executable": sys.executable}
if sys.argv[1:] == ["torch"]:
    try:
        import torch  # type: ignore[import-not-found]

        found["torch"] = str(torch.__version__)
        found["cuda"] = torch.version.cuda
        found["available"] = bool(torch.cuda.is_available())
        found["devices"] = int(torch.cuda.device_count())
    except Exception as error:
        found["error"] = type(error).__name__ + ": " + str(error)
sys.stdout.write("\n@tmuxevolve " + json.dumps(found) + "\n")
