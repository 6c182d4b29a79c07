"""The long form of the end to end tests: what can be killed, frozen, cut, lost or full, at random moments, again and again."""
