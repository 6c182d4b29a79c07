"""`ordertape demo`: half an hour of a real exchange's order flow through the live services, and the proof that what came out is
what the exchange itself recorded.
"""
