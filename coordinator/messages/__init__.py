"""Renders the coordinator's reasons as sentences: in logs, `coordinator status`, closes and refusals.

Decisions answer with types (`barnraise.core.reason`); only these modules put them into words. One function
renders one family of reasons and matches all of its cases.
"""
