"""Querysets that Django puts together once and that run often.

To make SQL of a queryset takes Django several times as long as PostgreSQL takes to answer one that reads a
few rows. A gate asks some twenty of them, always the same, with other ids; a list asks for the same columns
at each request, of other rows.
"""

from collections.abc import Callable, Collection, Iterator
from copy import copy
from typing import Any, Generic, NamedTuple, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import BooleanField, F, Func, QuerySet
from django.db.models.query import BaseIterable
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler
from django.db.transaction import TransactionManagementError

Row = TypeVar("Row")


class Given:
    """Stands among the parameters of SQL for the values that a run is given by this name."""

    def __init__(self, name: str) -> None:
        self.name = name


class Among(Func):
    """Whether a column has one of the values that a ``compiled`` query is given by a name."""

    output_field = BooleanField()
    # One parameter however many values there are, so the SQL stays the same.
    template = "%(expressions)s = ANY(%%s)"

    def __init__(self, column: str, name: str) -> None:
        super().__init__(F(column))
        self.name = name

    def as_sql(self, *args: Any, **kwargs: Any) -> tuple[str, tuple[Any, ...]]:
        sql, parameters = super().as_sql(*args, **kwargs)
        return sql, (*parameters, Given(self.name))


class AboveAny(Among):
    """Whether a column is greater than one of the values that a ``compiled`` query is given by a name."""

    template = "%(expressions)s > ANY(%%s)"


class Made(NamedTuple):
    """What Django has made of a queryset."""

    rows: QuerySet[Any, Any]
    compiler: SQLCompiler
    sql: str
    parameters: tuple[Any, ...]
    converters: dict[int, Any]


class Compiled(Generic[Row]):
    """A function that returns a queryset, made into one that returns the queryset's rows."""

    def __init__(self, make: Callable[[], QuerySet[Any, Row]]) -> None:
        self._make = make
        self._made: Made | None = None

    def __call__(self, **given: Collection[Any]) -> list[Row]:
        """The rows where each ``Among`` finds a value among those given by its name; none where one is empty.

        Raises TypeError when a name is missing or unknown.
        """
        # Two threads may both make it; they make the same.
        made = self._made = self._made or self._compile()
        wanted = {each.name for each in made.parameters if isinstance(each, Given)}
        if wanted != given.keys():
            raise TypeError(f"The query wants {sorted(wanted)}, and was given {sorted(given)}.")
        if not all(given.values()):
            return []
        values = tuple(
            list(given[each.name]) if isinstance(each, Given) else each for each in made.parameters
        )
        compiler: Any = copy(made.compiler)
        compiler.connection = connections[made.rows.db]  # each thread has its own
        if made.rows.query.select_for_update and not compiler.connection.in_atomic_block:
            raise TransactionManagementError("select_for_update cannot be used outside of a transaction.")
        # What it has done already.
        compiler.as_sql = lambda *_: (made.sql, values)
        compiler.get_converters = lambda *_: made.converters
        run: Any = made.rows.all()
        run.query.get_compiler = lambda *_, **__: compiler
        return list(run)

    def _compile(self) -> Made:
        rows = self._make()
        compiler = rows.query.get_compiler(using=rows.db)
        sql, parameters = compiler.as_sql()
        columns = [column for column, *_ in compiler.select[: compiler.col_count]]
        return Made(rows, compiler, sql, tuple(parameters), compiler.get_converters(columns))


def compiled(make: Callable[[], QuerySet[Any, Row]]) -> Compiled[Row]:
    """Compile the queryset that a function returns when it is first asked, and keep its SQL.

    So nothing in it may depend on a request or on the time.

        @compiled
        def releases_of() -> QuerySet[Release]:
            return Release.objects.filter(Among("build", "builds")).order_by("pk")

        releases_of(builds=[1, 2])
    """
    return Compiled(make)


PAGE = "/* page */"


class InPage(Func):
    """Whether a row is one of those that another queryset finds, whose SQL takes the place of ``PAGE``."""

    output_field = BooleanField()
    # The page comes first and alone, and all else is looked up by its keys.
    template = f"%(expressions)s = ANY(ARRAY({PAGE}))"

    def as_sql(self, *args: Any, **kwargs: Any) -> tuple[str, tuple[Any, ...]]:
        sql, parameters = super().as_sql(*args, **kwargs)
        return sql, (*parameters, Given("page"))


class Around(NamedTuple):
    """What stands around the SQL of a page, and how what it reads becomes the values of a row."""

    head: str
    tail: str
    names: tuple[str, ...]
    converters: list[tuple[str, list[Callable[..., Any]], Any]]


class CompiledColumns:
    """The columns of a ``.values()`` queryset, to be read of the rows that other querysets find.

    All but which rows these are is compiled once; so nothing in it may depend on a request or on the time.
    """

    def __init__(self, rows: QuerySet[Any, dict[str, Any]]) -> None:
        self._rows = rows
        self._around: dict[tuple[Any, ...], Around] = {}
        read = self._read

        class Iterable(BaseIterable):
            def __iter__(self) -> Iterator[dict[str, Any]]:
                return read(self.queryset)

        self._iterable = Iterable

    def of(self, found: QuerySet[Any, Any]) -> QuerySet[Any, dict[str, Any]]:
        """A queryset like ``found``, in its order, whose rows are dictionaries of the columns."""
        page: Any = found.values("pk")
        page._iterable_class = self._iterable
        return page

    def _read(self, page: QuerySet[Any, Any]) -> Iterator[dict[str, Any]]:
        connection = connections[page.db]
        try:
            which, given = page.query.get_compiler(connection=connection).as_sql()
        except EmptyResultSet:
            return
        around = self._compiled(page.query, page.db)
        with connection.cursor() as cursor:
            cursor.execute(around.head + cursor.mogrify(which, given).decode() + around.tail)
            found = cursor.fetchall()
        for values in found:
            row = dict(zip(around.names, values, strict=True))
            for name, converters, column in around.converters:
                for converter in converters:
                    row[name] = converter(row[name], column, connection)
            yield row

    def _compiled(self, page: Query, using: str) -> Around:
        """For rows in the order of the page; a list knows two, since pages can be turned back."""
        order = (page.order_by, page.default_ordering, page.standard_ordering)
        # Two threads may both make it; they make the same.
        if order not in self._around:
            rows = self._rows.filter(InPage("pk"))
            rows.query.order_by, rows.query.default_ordering, rows.query.standard_ordering = order
            compiler = rows.query.get_compiler(using=using)
            sql, parameters = compiler.as_sql()
            # With its parameters, of which there may be a hundred: to write them takes the driver a while.
            fixed = [each for each in parameters if not isinstance(each, Given)]
            with connections[using].cursor() as cursor:
                head, _, tail = cursor.mogrify(sql, fixed).decode().partition(PAGE)
            columns = [column for column, *_ in compiler.select[: compiler.col_count]]
            names = tuple(rows.query.selected or ())
            converters = compiler.get_converters(columns)
            self._around[order] = Around(
                head=head,
                tail=tail,
                names=names,
                converters=[(names[n], *how) for n, how in converters.items()],
            )
        return self._around[order]
