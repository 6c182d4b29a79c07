"""Runs another language's program: what it prints is kept and shown where it fails, and nothing of it outlives its block."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clients.story.clients import Command

Answer = Callable[[str], str | None]


class Failed(Exception):
    """A program that did not end as it must; says all that it printed."""

    def __init__(self, command: Command, what: str, output: list[str]) -> None:
        super().__init__("\n".join([f"`{' '.join(command)}` {what}", *(f"    {line}" for line in output)]))


def run(command: Command, folder: Path, seconds: float, answer: Answer = lambda _line: None) -> list[str]:
    """Run ``command`` in ``folder`` and return the lines that it printed.

    ``answer`` is told each line as it comes; what it returns is the program's next line of input. Raises Failed where the program
    ends with another exit code than 0 or takes longer than ``seconds``.
    """
    output: list[str] = []
    # A group of its own, so that what the program started ends with it.
    process = subprocess.Popen(  # noqa: S603 - the table's commands
        command,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    late = threading.Event()

    def end_late() -> None:
        late.set()
        _end(process)

    watchdog = threading.Timer(seconds, end_late)
    watchdog.start()
    try:
        for line in process.stdout:
            output.append(line.rstrip("\n"))
            said = answer(output[-1])
            if said is not None:
                process.stdin.write(said + "\n")
                process.stdin.flush()
        code = process.wait()
    except BrokenPipeError:
        raise Failed(command, "did not wait for an answer", output) from None
    finally:
        watchdog.cancel()
        _end(process)
        process.stdin.close()
        process.stdout.close()
    if late.is_set():
        raise Failed(command, f"did not end within {seconds:g} s and was killed", output)
    if code:
        raise Failed(command, f"ended with exit code {code}", output)
    return output


def _end(process: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
