"""What an operator does to a history's store, each a command of its own process: bring its schema up to date, fill it from the
ledger, compare it with the ledger and the engine.
"""
