"""`--print-grpcurl`: an option of every command that calls the services, which then prints its calls as lines for grpcurl and
sends none. Kept free of gRPC and protobuf, so that `ordertape --help` stays quick; the lines are made in grpcurl_lines.py.
"""

import inspect
import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, TextIO

import typer

PrintGrpcurl = Annotated[
    bool,
    typer.Option("--print-grpcurl", help="Print each call as a line for grpcurl instead of making it."),
]
_ADDRESSES = ("engine", "history")


@dataclass(slots=True)
class Printing:
    """Whether calls are printed, and where to; whether the present one is made all the same, since the next depends on it; the
    last line, which a retry does not print again.
    """

    to: TextIO | None = None
    asks: bool = False
    last_line: str = ""


PRINTING = Printing()


class Printed(Exception):
    """A call was printed that has no answer, and nothing of the command is left to print."""


def printable(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the option, where it calls a service; else the command."""
    signature = inspect.signature(command)
    if not any(name in signature.parameters for name in _ADDRESSES):
        return command

    @wraps(command)
    def run(*arguments: Any, print_grpcurl: bool = False, **options: Any) -> None:
        if print_grpcurl:
            _print_calls(lambda: command(*arguments, **options))
        else:
            command(*arguments, **options)

    option = inspect.Parameter("print_grpcurl", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=PrintGrpcurl)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "print_grpcurl": PrintGrpcurl}
    return run


def _print_calls(command: Callable[[], None]) -> None:
    """Run the command with its calls printed, and without what it makes of answers that never were."""
    PRINTING.to = sys.stdout
    try:
        with redirect_stdout(io.StringIO()):
            command()
    except (Printed, typer.Exit):
        pass
    finally:
        PRINTING.to, PRINTING.last_line = None, ""
