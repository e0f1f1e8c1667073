"""Renders the coordinator's reasons as sentences for people: in logs, `coordinator status`, closes, refusals.

Decisions answer with types (`barnraise.core.reason`); these modules alone put them into words. One function
renders one family of reasons and matches all of its cases.
"""
