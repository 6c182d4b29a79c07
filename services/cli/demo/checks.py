"""One thing that the demo proves: how many cases there were, how many came out equal, and the first that did not."""

from dataclasses import dataclass, field
from typing import Any

DIFFERENCES_KEPT = 5


@dataclass(slots=True)
class Check:
    """Counts comparisons of what was expected with what came."""

    name: str
    expected: int = 0
    equal: int = 0
    actual: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all that was compared was equal."""
        return self.equal == self.expected and not self.differences

    def compare(self, what: object, expected: object, actual: object) -> None:
        """Count one case."""
        self.expected += 1
        self.actual += 1
        if expected == actual:
            self.equal += 1
        else:
            self.differ(f"{what}: expected {expected}, got {actual}")

    def count(self, expected: int, actual: int) -> None:
        """Compare two counts, in place of case by case."""
        self.expected, self.actual, self.equal = expected, actual, min(expected, actual)
        if actual > expected:
            self.differ(f"{actual - expected} more than there should be")

    def differ(self, text: str) -> None:
        """Note what should not be there at all."""
        if len(self.differences) < DIFFERENCES_KEPT:
            self.differences.append(text)

    def as_json(self) -> dict[str, Any]:
        """The check for a program."""
        return {
            "name": self.name,
            "ok": self.ok,
            "expected": self.expected,
            "equal": self.equal,
            "differences": self.differences,
        }
