"""A backup of a run's folder in another folder, and the way back.

A backup has the journal as it was at one moment, and every file that it names, each checked by its hash. It
has no secret unless it is asked for the run key, and never what a closer has voted: votes that come back from
a backup would be cast twice. `contents.py` lists what is copied; nothing else is.
"""
