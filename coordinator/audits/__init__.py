"""Audits of contributions: what is audited, what it shows of a key, and what follows from it."""
