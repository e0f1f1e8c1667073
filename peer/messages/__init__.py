"""The peer's messages: each reason (`barnraise.core.reason`) rendered as a sentence for people.

One module renders the reasons of one folder. Nothing below `peer.cli` imports this package: displays get the
renderer that they need. Tests of decisions compare reasons; tests/peer/test_messages.py holds the words.
"""
