"""Bytes that stay readable for good: of every message, in every language, and of a whole ledger."""
