"""All checks, each with the promise that it is about, and what came of each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from services.cli.conformance import engine_checks as engine
from services.cli.conformance import history_checks as history
from services.cli.conformance.expecting import Mismatch, refusal_of
from services.cli.conformance.scenarios import SCENARIOS, play
from services.cli.conformance.stage import Stage

_ONCE = "a retry never does a thing twice"
_TOLD = "an error changed nothing and says why"
_MONEY = "no money is made or lost"
_STATES = "every state of an order is there"
_WATCH = "a watch is ordered, unique, complete and resumable"


@dataclass(frozen=True, slots=True)
class Check:
    """Something that has to be so. ``promise`` is what it is about in docs/guarantees.md or docs/lifecycle.md."""

    name: str
    promise: str
    run: Callable[[Stage], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a check; ``expected`` and ``seen`` are empty where it passed."""

    check: Check
    expected: str = ""
    seen: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing else was seen than what was expected."""
        return not (self.expected or self.seen)

    def as_row(self) -> dict[str, Any]:
        """For a table or a program."""
        row = {"check": self.check.name, "promise": self.check.promise, "result": "passed" if self.passed else "FAILED"}
        return row | {"expected": self.expected, "seen": self.seen}


def _named(run: Callable[[Stage], None], promise: str) -> Check:
    return Check(run.__name__.replace("_", " "), promise, run)


CHECKS = (
    _named(engine.a_deposit_is_made_once, _ONCE),
    _named(engine.a_placed_order_rests_and_shows, "what was answered is there"),
    _named(engine.a_place_that_is_sent_again_is_answered_again, _ONCE),
    _named(engine.a_key_with_other_content_is_refused, "the same key with other content is told so"),
    _named(engine.a_cancel_that_is_sent_again_is_answered_again, _ONCE),
    _named(engine.a_mass_cancel_ends_what_it_counted, _ONCE),
    _named(engine.a_trade_moves_money_exactly, _MONEY),
    _named(engine.both_sides_carry_the_trade, _STATES),
    _named(engine.a_replace_needs_the_version_that_it_names, _TOLD),
    _named(engine.bad_input_names_every_field, "bad input names every field"),
    _named(engine.an_unknown_order_is_not_found, "a caller sees only its own orders"),
    _named(engine.what_the_exchange_refuses_is_an_answer, "a refused order is an OK answer that says REJECTED"),
    _named(engine.a_suspended_user_is_refused_until_readmitted, "the operator's word holds from where it was given"),
    _named(engine.a_withdrawal_beyond_what_is_free_is_refused, _MONEY),
    _named(engine.one_bad_item_of_many_fails_alone, _TOLD),
    _named(engine.a_session_answers_in_order, "a session's messages are answered in order"),
    _named(engine.the_ledger_is_a_chain, "the ledger has every line, in one order, chained by hashes"),
    _named(history.every_state_is_there_and_numbered, _STATES),
    _named(history.you_read_what_you_wrote, "you read what you wrote"),
    _named(history.the_past_can_be_asked_for, "the past can be asked for"),
    _named(history.the_future_cannot_be_asked_for, _TOLD),
    _named(history.lists_are_complete_in_pages, "lists are complete and in the order that they state"),
    _named(history.every_fill_is_listed, _STATES),
    _named(history.a_watch_begins_with_what_is_open, _WATCH),
    _named(history.a_watch_resumes_after_any_position, _WATCH),
    _named(history.an_export_is_everything_up_to_its_end, "an export is all updates up to a position that it names"),
    _named(history.the_history_is_well, "the history follows the engine's ledger"),
    *(Check(scenario.name, "the life of an order", partial(play, scenario)) for scenario in SCENARIOS),
)


def outcomes(stage: Stage) -> Iterator[Outcome]:
    """Run all checks, each whatever came of those before it."""
    for check in CHECKS:
        try:
            check.run(stage)
        except Mismatch as mismatch:
            yield Outcome(check, f"{mismatch.what}: {mismatch.expected}", mismatch.seen)
        except grpc.RpcError as error:
            yield Outcome(check, "the call to be answered", f"{refusal_of(error)}: {error.details()}".replace("\n", " "))
        except (LookupError, ValueError) as error:
            yield Outcome(check, "an answer with what the contract promises in it", f"{type(error).__name__}: {error}")
        else:
            yield Outcome(check)
