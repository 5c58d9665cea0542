"""The first process of a window: ``python -I worker_entry.py ADDRESS WORKER``.

Isolated mode keeps the tmux server's old environment and the current directory out of it, and with
them a user's own site-packages: so the package's folder is put on the path here.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from tmuxevolve.keeper import main

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
