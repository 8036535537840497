"""What a migration leaves of the way back, read from its source: no database, no Django, nothing is run.

The levels, by what the release before finds when it comes back to the database as this one left it:

- ``reversible``: it runs, and the migration could be undone as well (a new table, column or index);
- ``forward_compatible``: it runs, but the migration cannot be undone without loss, or refuses something
  that the release before might write (a new constraint, a longer text, a data migration);
- ``one_way``: it does not run (a column or table that is gone or renamed, a value that it must now give);
- ``unknown``: the source does not tell.

A migration's author knows better than its source does: ``way_back = "one_way"`` (or another level) at the
top of its module has the last word, and ``contract = True`` marks one that is applied on purpose, later
(apps.rollout.plan).
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# Nobody writes longer ones; those of an attacker are not parsed.
LIMIT = 512 * 1024  # bytes


class Level(StrEnum):
    REVERSIBLE = "reversible"
    FORWARD_COMPATIBLE = "forward_compatible"
    UNKNOWN = "unknown"
    ONE_WAY = "one_way"


# What weighs more wins: what is known to be shut stays so, whatever else is unknown.
WEIGHT = {level: weight for weight, level in enumerate(Level)}


@dataclass(frozen=True)
class Step:
    """A migration of a release, and what it leaves of the way back."""

    app: str
    name: str
    level: str
    # What makes it so, such as "RemoveField order.total"; empty for a reversible one.
    operation: str = ""
    # Applied on purpose, when the way back has been given up; not by a deployment.
    contract: bool = False
    # The migrations that it stands for, as app.name, where it is a squashed one.
    replaces: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.app}.{self.name}"

    def to_json(self) -> dict[str, Any]:
        """As Release.steps holds it."""
        return {
            "app": self.app,
            "name": self.name,
            "level": str(self.level),
            "operation": self.operation,
            "contract": self.contract,
            "replaces": list(self.replaces),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Step":
        """What to_json wrote."""
        return cls(**{**data, "replaces": tuple(data["replaces"])})


@dataclass(frozen=True)
class Found:
    level: Level
    what: str = ""


Fields = dict[tuple[str, str], ast.expr]
OPEN = Found(Level.REVERSIBLE)


def read_steps(sources: Mapping[tuple[str, str], bytes]) -> list[Step]:
    """The steps of a release from the sources of its migrations, by app and name, in that order."""
    steps: list[Step] = []
    apps: dict[str, Fields] = {}
    for (app, name), source in sorted(sources.items()):
        fields = apps.setdefault(app, {})
        steps.append(_read(app, name, source, fields, sources))
    return steps


def _read(
    app: str, name: str, source: bytes, fields: Fields, sources: Mapping[tuple[str, str], bytes]
) -> Step:
    try:
        if len(source) > LIMIT:
            raise ValueError(f"it has {len(source):,} bytes")
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Step(app, name, Level.UNKNOWN, f"its source cannot be read: {error}"[:200])
    constants = dict(_assignments(module.body))
    migration = next(
        (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Migration"), None
    )
    if migration is None:
        return Step(app, name, Level.UNKNOWN, "its source has no class Migration")
    inside = dict(_assignments(migration.body))
    replaces = _replaced(inside.get("replaces"))
    # Beside the migrations that it stands for, a squashed one says nothing new of the fields.
    squashed = any(f"{other}.{each}" in replaces for other, each in sources)
    found = _Reader(constants, dict(fields) if squashed else fields).level_of(inside.get("operations"))
    contract = _constant(constants.get("contract")) is True
    if "way_back" in constants:
        said = _constant(constants["way_back"])
        known = isinstance(said, str) and said in set(Level)
        found = (
            Found(Level(said), "" if said == Level.REVERSIBLE else "its author says so")
            if known
            else Found(Level.UNKNOWN, f"its way_back is not one of {', '.join(Level)}")
        )
    elif contract and found.level != Level.ONE_WAY:
        found = Found(Level.ONE_WAY, "its author calls it a contract migration")
    return Step(app, name, found.level, found.what[:200], contract, replaces)


def _assignments(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for node in body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


def _replaced(node: ast.expr | None) -> tuple[str, ...]:
    try:
        pairs = ast.literal_eval(node) if node is not None else []
        return tuple(f"{app}.{name}" for app, name in pairs)
    except (ValueError, TypeError):
        return ()


def _constant(node: ast.expr | None, default: Any = None) -> Any:
    return node.value if isinstance(node, ast.Constant) else default


def worst(found: Iterable[Found]) -> Found:
    """The one that weighs most, the first of several; reversible where there is none."""
    return max(found, key=lambda each: WEIGHT[each.level], default=OPEN)


# Indexes, what only Django knows of, and extensions that something may use from now on.
HARMLESS = frozenset(
    {
        "AddIndex",
        "AddIndexConcurrently",
        "AlterIndexTogether",
        "AlterModelManagers",
        "AlterModelOptions",
        "AlterModelTableComment",
        "BloomExtension",
        "BtreeGinExtension",
        "BtreeGistExtension",
        "CITextExtension",
        "CreateCollation",
        "CreateExtension",
        "CryptoExtension",
        "HStoreExtension",
        "RemoveIndex",
        "RemoveIndexConcurrently",
        "RenameIndex",
        "TrigramExtension",
        "UnaccentExtension",
        "ValidateConstraint",
    }
)
# What each says of the way back by its name alone.
BY_NAME = {
    "AddConstraint": (Level.FORWARD_COMPATIBLE, "the release before may write what it refuses"),
    "AddConstraintNotValid": (Level.FORWARD_COMPATIBLE, "the release before may write what it refuses"),
    "AlterUniqueTogether": (Level.FORWARD_COMPATIBLE, "the release before may write what it refuses"),
    "RemoveConstraint": (Level.FORWARD_COMPATIBLE, "what it refused may be there by then"),
    "AlterOrderWithRespectTo": (Level.ONE_WAY, ""),
    "AlterModelTable": (Level.ONE_WAY, "the release before looks for the old table"),
    "DeleteModel": (Level.ONE_WAY, ""),
    "RemoveField": (Level.ONE_WAY, ""),
    "RenameField": (Level.ONE_WAY, ""),
    "RenameModel": (Level.ONE_WAY, ""),
}
# In the order in which they may be given without their names.
ARGUMENTS = {
    "AddField": ("model_name", "name", "field"),
    "AlterField": ("model_name", "name", "field"),
    "AlterModelTable": ("name", "table"),
    "CreateModel": ("name", "fields"),
    "DeleteModel": ("name",),
    "RemoveField": ("model_name", "name"),
    "RenameField": ("model_name", "old_name", "new_name"),
    "RenameModel": ("old_name", "new_name"),
    "RunPython": ("code", "reverse_code"),
    "RunSQL": ("sql", "reverse_sql", "state_operations"),
    "SeparateDatabaseAndState": ("database_operations", "state_operations"),
}


class _Reader:
    """Reads the operations of one migration; ``fields`` are its app's as the migrations before left them."""

    def __init__(self, constants: Mapping[str, ast.expr], fields: Fields) -> None:
        self.constants = constants
        self.fields = fields
        # Models of this very migration: whatever it does to them, the release before has none of them.
        self.made: set[str] = set()

    def level_of(self, operations: ast.expr | None) -> Found:
        return worst(self._each(operations))

    def _each(self, operations: ast.expr | None, *, state: bool = True) -> Iterator[Found]:
        if operations is None:
            return
        operations = self._resolve(operations)
        if not isinstance(operations, ast.List | ast.Tuple):
            yield Found(Level.UNKNOWN, "its operations are not written out as a list")
            return
        for node in operations.elts:
            if not isinstance(node, ast.Call):
                yield Found(Level.UNKNOWN, f"{ast.unparse(node)[:80]} is not written out as an operation")
                continue
            yield self._judge(node)
            if state:
                self._follow(node)

    def _judge(self, call: ast.Call) -> Found:
        name, given = _name(call.func), self._arguments(call)
        model = _lower(given.get("model_name") or given.get("name") or given.get("old_name"))
        if name in HARMLESS or name == "CreateModel" or model in self.made:
            return OPEN
        judges: dict[str, Callable[[dict[str, ast.expr]], Found]] = {
            "AddField": _judge_added,
            "AlterField": self._judge_altered,
            "RunPython": _judge_python,
            "RunSQL": self._judge_sql,
            "SeparateDatabaseAndState": self._judge_separate,
        }
        field = _lower(given.get("name") or given.get("old_name")) if "model_name" in given else ""
        what = " ".join(filter(None, [name, f"{model}.{field}" if field else model]))
        if name in BY_NAME:
            level, why = BY_NAME[name]
        elif name in judges:
            found = judges[name](given)
            level, why = found.level, found.what
        else:
            return Found(Level.UNKNOWN, f"{name} is no operation that is known here")
        return OPEN if level == Level.REVERSIBLE else Found(level, f"{what}: {why}" if why else what)

    def _follow(self, call: ast.Call) -> None:
        """Keep what the fields are after it."""
        name, given = _name(call.func), self._arguments(call)
        if name == "CreateModel":
            self._create(_lower(given.get("name")), self._resolve(given.get("fields")))
        elif name in {"AddField", "AlterField"} and "field" in given:
            self.fields[_lower(given.get("model_name")), _lower(given.get("name"))] = given["field"]
        elif name in {"RenameField", "RenameModel"}:
            self._rename(given)
        elif name in {"SeparateDatabaseAndState", "RunSQL"}:
            operations = self._resolve(given.get("state_operations"))
            if isinstance(operations, ast.List | ast.Tuple):
                for node in operations.elts:
                    if isinstance(node, ast.Call):
                        self._follow(node)

    def _rename(self, given: dict[str, ast.expr]) -> None:
        old_name, new_name = _lower(given.get("old_name")), _lower(given.get("new_name"))
        of = _lower(given.get("model_name"))
        for model, field in list(self.fields):
            if (model, field) == (of, old_name):
                self.fields[model, new_name] = self.fields.pop((model, field))
            elif not of and model == old_name:
                self.fields[new_name, field] = self.fields.pop((model, field))

    def _create(self, model: str, fields: ast.expr | None) -> None:
        if model:
            self.made.add(model)
        for pair in fields.elts if isinstance(fields, ast.List | ast.Tuple) else ():
            if isinstance(pair, ast.Tuple) and len(pair.elts) == 2:
                self.fields[model, _lower(pair.elts[0])] = pair.elts[1]

    def _judge_altered(self, given: dict[str, ast.expr]) -> Found:
        before = self.fields.get((_lower(given.get("model_name")), _lower(given.get("name"))))
        return compare_fields(before, given.get("field"))

    def _judge_sql(self, given: dict[str, ast.expr]) -> Found:
        statements = list(self._texts(given.get("sql")))
        if None in statements:
            return Found(Level.UNKNOWN, "its SQL is not written out")
        for statement in statements:
            if taken := takes_away(statement or ""):
                return Found(Level.ONE_WAY, taken)
        return _undone(given.get("reverse_sql"))

    def _texts(self, node: ast.expr | None) -> Iterator[str | None]:
        """The statements; None for one that cannot be read."""
        node = self._resolve(node)
        if isinstance(node, ast.List | ast.Tuple):
            for each in node.elts:
                # (SQL, parameters), or the SQL alone
                yield from self._texts(each.elts[0] if isinstance(each, ast.Tuple) and each.elts else each)
        else:
            text = _constant(node)
            yield text if isinstance(text, str) else None

    def _judge_separate(self, given: dict[str, ast.expr]) -> Found:
        # What Django alone is told changes no database.
        return worst(self._each(given.get("database_operations"), state=False))

    def _resolve(self, node: ast.expr | None) -> Any:
        return self.constants.get(node.id, node) if isinstance(node, ast.Name) else node

    def _arguments(self, call: ast.Call) -> dict[str, ast.expr]:
        names = ARGUMENTS.get(_name(call.func), ("model_name", "name"))
        given = dict(zip(names, call.args, strict=False))
        return given | {each.arg: each.value for each in call.keywords if each.arg}


def _name(node: ast.expr) -> str:
    """The last part of a dotted name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ast.unparse(node)[:80]


def _lower(node: ast.expr | None) -> str:
    """A name as Django compares them."""
    return str(_constant(node, "")).lower()


def _undone(reverse: ast.expr | None) -> Found:
    nothing = reverse is None or _constant(reverse, ...) in (None, "") or _name(reverse) == "noop"
    return Found(Level.FORWARD_COMPATIBLE, "it cannot be undone") if nothing else OPEN


def _judge_python(given: dict[str, ast.expr]) -> Found:
    return _undone(given.get("reverse_code"))


def _judge_added(given: dict[str, ast.expr]) -> Found:
    field = given.get("field")
    if not isinstance(field, ast.Call):
        return Found(Level.UNKNOWN, "its field is not written out")
    values = {each.arg: each.value for each in field.keywords}
    if None in values:
        return Found(Level.UNKNOWN, "its field is not written out")
    # A table of its own, or a value that PostgreSQL works out.
    if _name(field.func) in {"ManyToManyField", "GeneratedField", "GenericForeignKey", "GenericRelation"}:
        return OPEN
    if "primary_key" in values:
        return Found(Level.ONE_WAY, "another primary key")
    null = values.get("null")
    if null is not None and not isinstance(null, ast.Constant):
        return Found(Level.UNKNOWN, "whether it may be empty is not written out")
    if _constant(null, default=False) or "db_default" in values:
        return OPEN
    return Found(Level.ONE_WAY, "the release before gives it no value, and PostgreSQL has no default for it")


# What Django alone cares about.
NOT_IN_THE_DATABASE = frozenset(
    {
        "auto_now",
        "auto_now_add",
        "auto_created",
        "blank",
        "choices",
        "db_comment",
        "db_index",
        "db_tablespace",
        "decoder",
        "default",
        "editable",
        "encoder",
        "error_messages",
        "help_text",
        "limit_choices_to",
        "on_delete",
        "related_name",
        "related_query_name",
        "serialize",
        "storage",
        "unique_for_date",
        "unique_for_month",
        "unique_for_year",
        "upload_to",
        "validators",
        "verbose_name",
    }
)
# Kinds that are the same column with another length.
TEXTS = {"CharField": None, "SlugField": 50, "EmailField": 254, "URLField": 200, "FileField": 100}
WIDER = {
    "CharField": {"TextField"},
    "SmallIntegerField": {"IntegerField", "BigIntegerField"},
    "IntegerField": {"BigIntegerField"},
    "PositiveSmallIntegerField": {"PositiveIntegerField", "PositiveBigIntegerField"},
    "PositiveIntegerField": {"PositiveBigIntegerField"},
    "SmallAutoField": {"AutoField", "BigAutoField"},
    "AutoField": {"BigAutoField"},
    "OneToOneField": {"ForeignKey"},
}


def compare_fields(before: ast.expr | None, after: ast.expr | None) -> Found:
    """What altering a field leaves of the way back."""
    if not isinstance(before, ast.Call) or not isinstance(after, ast.Call):
        return Found(Level.UNKNOWN, "what it was before is not written out")
    old, new = _values(before), _values(after)
    found = [_compare_kinds(_kind(before), _kind(after))]
    for name in sorted(old.keys() | new.keys()):
        same = _text(old.get(name)) == _text(new.get(name))
        if not same and name not in NOT_IN_THE_DATABASE:
            wider = _kind(after) == "TextField" and name == "max_length"
            found.append(OPEN if wider else _compare_values(name, old.get(name), new.get(name)))
    return worst(found)


def _kind(field: ast.Call) -> str:
    name = _name(field.func)
    return "CharField" if name in TEXTS else name


def _values(field: ast.Call) -> dict[str, ast.expr]:
    values = {each.arg: each.value for each in field.keywords if each.arg}
    length = TEXTS.get(_name(field.func))
    if length is not None:
        values.setdefault("max_length", ast.Constant(length))
    return values


def _text(node: ast.expr | None) -> str | None:
    return None if node is None else ast.unparse(node)


def _compare_kinds(old: str, new: str) -> Found:
    if old == new:
        return OPEN
    if new in WIDER.get(old, set()):
        return Found(Level.FORWARD_COMPATIBLE, f"{new} takes what {old} did not")
    return Found(Level.ONE_WAY, f"{old} becomes {new}")


def _compare_values(name: str, old: ast.expr | None, new: ast.expr | None) -> Found:
    if name == "base_field":
        # What an array holds.
        return compare_fields(old, new)
    was, is_ = _constant(old), _constant(new)
    if name == "null":
        if is_:
            return Found(Level.FORWARD_COMPATIBLE, "it may be empty by then")
        return (
            Found(Level.ONE_WAY, "the release before may leave it empty, which is refused") if was else OPEN
        )
    if name in {"unique", "db_constraint"}:
        # As adding or removing a constraint is.
        return Found(Level.FORWARD_COMPATIBLE, f"{name} becomes {bool(is_)}")
    if name == "db_default":
        if new is None:
            # Whoever does not know the column gives it no value.
            return Found(Level.ONE_WAY, "PostgreSQL has no default for it any more")
        return OPEN
    if name in {"max_length", "max_digits"}:
        longer = is_ is None or (isinstance(was, int) and isinstance(is_, int) and is_ > was)
        return (
            Found(Level.FORWARD_COMPATIBLE, f"{name} grows")
            if longer
            else Found(Level.ONE_WAY, f"{name} shrinks: the release before may write what is refused")
        )
    return Found(Level.ONE_WAY, f"{name} changes")


# What takes something away that the release before may use, or asks for something that it does not give.
TAKES = re.compile(
    r"""\b(
        DROP\s+(?:TABLE|COLUMN|VIEW|MATERIALIZED\s+VIEW|SCHEMA|TYPE|SEQUENCE|FUNCTION|DEFAULT)\b
        | ALTER\s+(?:TABLE|COLUMN)\b[^;]*?\bDROP\s+
            (?!CONSTRAINT|NOT\s+NULL|EXPRESSION|IDENTITY)(?:COLUMN\s+)?(?:IF\s+EXISTS\s+)?\w+
        | RENAME\s+(?:TO|COLUMN|CONSTRAINT|\S+\s+TO)\b
        | SET\s+NOT\s+NULL\b
        | ALTER\s+COLUMN\s+\S+\s+(?:SET\s+DATA\s+)?TYPE\b
        | DELETE\s+FROM\b
        | (?<!BEFORE\ )(?<!AFTER\ )(?<!OR\ )TRUNCATE\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
ADDS = re.compile(r"\bADD\s+(?:COLUMN\s+)?(?!CONSTRAINT)[^,;]*\bNOT\s+NULL\b[^,;]*", re.IGNORECASE)
COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def takes_away(sql: str) -> str:
    """The part of a statement that takes something from the release before; empty where none is seen."""
    sql = COMMENT.sub(" ", sql)
    if found := TAKES.search(sql):
        return " ".join(found[1].split())
    for added in ADDS.finditer(sql):
        if not re.search(r"\b(DEFAULT|GENERATED)\b", added[0], re.IGNORECASE):
            return " ".join(added[0].split())[:80]
    return ""
