"""What both programs of Barnraise stand on. `coordinator` and `peer` import it; it imports neither.

`core`, `contract` and `fold` are pure: no clock, socket, torch or hivemind (docs/ARCHITECTURE.md).
"""

__version__ = "0.1.0"
