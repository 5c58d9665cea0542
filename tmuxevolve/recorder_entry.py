"""The recorder: ``python -I -S recorder_entry.py RESULTS FOLDER FIFOS DESCRIPTOR:WINDOW...``.

As with worker_entry.py, nothing of the user's own and no site-packages are loaded.
"""

import sys

# Not pathlib: its import would take as long as all the rest.
sys.path.append(__file__.rpartition("/")[0].rpartition("/")[0])

from tmuxevolve.recording.recorder import main

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
