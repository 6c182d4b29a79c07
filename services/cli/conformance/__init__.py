"""`ordertape conform`: proves to whoever writes or runs a server of the contract that it keeps the promises of
docs/guarantees.md and lets orders live as docs/lifecycle.md says, through nothing but calls.
"""
