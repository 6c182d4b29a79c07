"""kill -9 and a restart, each under a name."""

from tests.support.exchange_process import Exchange


def kill_engine(exchange: Exchange) -> None:
    """The engine dies and comes back."""
    exchange.engine.kill()
    exchange.engine.start()


def kill_history(exchange: Exchange) -> None:
    """The history dies and comes back."""
    exchange.history.kill()
    exchange.history.start()


def kill_both(exchange: Exchange) -> None:
    """Both die at the same moment and come back."""
    exchange.kill()
    exchange.start()
