"""The contract of Barnraise: what every party must compute or parse alike, byte for byte.

Everything here is pure (no clock, socket, torch or hivemind) except `barnraise.edge`,
the adapters that both programs share. docs/ARCHITECTURE.md has the picture.
"""

__version__ = "0.1.0"
