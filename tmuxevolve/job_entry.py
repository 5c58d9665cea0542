"""The first process of a Slurm job: ``python -I job_entry.py``; see batch.py.

Isolated mode keeps the current directory, which is the training's, and PYTHONPATH out of it.
"""

import sys

sys.path.append(__file__.rpartition("/")[0].rpartition("/")[0])

from tmuxevolve.batch import main

if __name__ == "__main__":
    sys.exit(main())
