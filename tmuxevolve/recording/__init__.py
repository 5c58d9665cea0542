"""The windows' output on disk: one recorder process for each ``start``, and what it writes.

The recorder is Python without site-packages: what it loads imports the standard library alone.
"""
