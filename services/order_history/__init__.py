"""The history service: follows the ledger, remembers every state of every order, and answers for it."""
