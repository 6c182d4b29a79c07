"""Lists of values as tables: for a notebook, for pandas and for polars, neither of which has to be there.

Columns are flat ("fill_price") and always the same for the same kind of value, also where a list is empty. Decimals stay exact:
in pandas they are Decimal objects, in polars Decimal(38, 18), into which everything fits but the last digits of an
avg_fill_price of less than 0.000001, which is for people and rounded anyway. Enums are their names, times are microseconds in
UTC.
"""

from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from html import escape
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from ordertape.client.views import Kind, View, columns_of

if TYPE_CHECKING:
    import pandas
    import polars

V_co = TypeVar("V_co", bound=View[Any], covariant=True)

ROWS_SHOWN_MAX = 50
_PANDAS = {
    Kind.WHOLE: "Int64",
    Kind.TEXT: "string",
    Kind.FLAG: "bool",
    Kind.DECIMAL: "object",
    Kind.TIME: "datetime64[us, UTC]",
    Kind.NAME: "string",
}
_POLARS_SCALE = Decimal(1).scaleb(-18)
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)


class Rows(Sequence[V_co], Generic[V_co]):
    """Some values of one kind. ``position``: all up to it is in them, and it can be given as at_least or after."""

    __slots__ = ("_items", "_view", "more", "position")

    def __init__(self, view: type[V_co], items: Sequence[V_co], position: str = "", more: bool = False) -> None:
        self._view = view
        self._items = tuple(items)
        self.position = position
        self.more = more

    @overload
    def __getitem__(self, index: int) -> V_co: ...
    @overload
    def __getitem__(self, index: slice) -> "Rows[V_co]": ...
    def __getitem__(self, index: int | slice) -> "V_co | Rows[V_co]":
        if isinstance(index, slice):
            return Rows(self._view, self._items[index], self.position)
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[V_co]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"Rows({list(self._items)!r})"

    def joined(self, others: "Sequence[Rows[V_co]]") -> "Rows[V_co]":
        """These and the others, at these' position."""
        return Rows(self._view, [item for rows in (self, *others) for item in rows], self.position)

    def to_pandas(self) -> "pandas.DataFrame":
        """A pandas DataFrame; decimals are Decimal objects. Raises ModuleNotFoundError where there is no pandas."""
        pd = _library("pandas")
        columns = {name: pd.Series(values, dtype=_PANDAS[kind]) for name, kind, values in self._columns()}
        return pd.DataFrame(columns)

    def to_polars(self) -> "polars.DataFrame":
        """A polars DataFrame. Raises ModuleNotFoundError where there is no polars."""
        pl = _library("polars")
        types = {
            Kind.WHOLE: pl.Int64,
            Kind.TEXT: pl.String,
            Kind.FLAG: pl.Boolean,
            Kind.DECIMAL: pl.Decimal(38, 18),
            Kind.TIME: pl.Datetime("us", "UTC"),
            Kind.NAME: pl.String,
        }
        columns = [
            pl.Series(name, [_scaled(value) for value in values] if kind is Kind.DECIMAL else values, dtype=types[kind])
            for name, kind, values in self._columns()
        ]
        frame: polars.DataFrame = pl.DataFrame(columns)
        return frame

    def frame(self) -> "pandas.DataFrame | polars.DataFrame":
        """A DataFrame of pandas, or of polars where only that is installed. Raises ModuleNotFoundError where neither is."""
        if find_spec("pandas") is None and find_spec("polars") is not None:
            return self.to_polars()
        return self.to_pandas()

    def _repr_html_(self) -> str:
        """A table for a notebook: the columns that something is in, of the first rows."""
        shown = self[:ROWS_SHOWN_MAX]
        filled = [(name, values) for name, _, values in shown._columns() if any(value not in (None, "") for value in values)]
        head = "".join(f"<th>{escape(name)}</th>" for name, _ in filled)
        body = "".join(f"<tr>{''.join(_cell(values[index]) for _, values in filled)}</tr>" for index in range(len(shown)))
        rest = f"{len(shown)} of {'more' if self.more else len(self)}" if self.more or len(shown) < len(self) else f"{len(self)}"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{rest} rows</p>"

    def _columns(self) -> Iterator[tuple[str, Kind, list[Any]]]:
        for column in columns_of(self._view):
            yield column.name, column.kind, [column.value_in(item) for item in self._items]


def _cell(value: Any) -> str:
    return f"<td>{'' if value is None else escape(str(value))}</td>"


def _scaled(value: Decimal | None) -> Decimal | None:
    return None if value is None else value.quantize(_POLARS_SCALE, context=_EXACT)


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ModuleNotFoundError(
            f"a DataFrame of {name} needs {name}, which is not installed: pip install {name}", name=name
        ) from None
