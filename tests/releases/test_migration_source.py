"""What each operation leaves of the way back, read from sources that are never run."""

import pytest

from apps.releases.migration_source import LIMIT, Step, read_steps, takes_away

MODEL = 'migrations.CreateModel(name="Order", fields=[("id", models.BigAutoField(primary_key=True)), {}])'
ORDER = MODEL.format('("note", models.CharField(max_length=100)), ("total", models.IntegerField())')


def source(*operations, head="", inside=""):
    return f"""
from django.db import migrations, models
{head}

class Migration(migrations.Migration):
    {inside}
    dependencies = []
    operations = [{", ".join(operations)}]
""".encode()


def read(*operations, first=(ORDER,), **parts):
    """The step of a second migration, after one that made orders."""
    steps = read_steps(
        {("shop", "0001_initial"): source(*first), ("shop", "0002_more"): source(*operations, **parts)}
    )
    assert [step.label for step in steps] == ["shop.0001_initial", "shop.0002_more"]
    assert steps[0].level == "reversible"
    return steps[1]


REVERSIBLE = [
    'migrations.CreateModel("Item", [("order", models.ForeignKey("shop.order", models.CASCADE))])',
    'migrations.AddField("order", "paid", models.BooleanField(null=True))',
    'migrations.AddField("order", "paid", models.BooleanField(default=False, db_default=False))',
    'migrations.AddField(model_name="order", name="tags", field=models.ManyToManyField("shop.tag"))',
    'migrations.AddField("order", "sum", models.GeneratedField(models.F("total"), db_persist=True))',
    'migrations.AddIndex("order", models.Index(fields=["total"], name="order_total"))',
    'migrations.AlterModelOptions(name="order", options={"ordering": ["id"]})',
    'migrations.AlterField("order", "note", models.CharField(max_length=100, help_text="For people."))',
    'migrations.AlterField("order", "total", models.IntegerField(db_default=0))',
    "migrations.RunPython(forwards, backwards)",
    'migrations.RunSQL("CREATE INDEX x ON shop_order (total)", "DROP INDEX x")',
    'migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("order", "note")])',
    # The release before knows nothing of what this very migration makes.
    'migrations.CreateModel("Item", []), migrations.AddField("item", "size", models.IntegerField())',
    'migrations.CreateModel("Item", []), migrations.AddConstraint("item", models.UniqueConstraint(name="x"))',
]
FORWARD_COMPATIBLE = {
    'migrations.AlterField("order", "note", models.CharField(max_length=200))': "max_length grows",
    'migrations.AlterField("order", "note", models.TextField())': "TextField takes what CharField did not",
    'migrations.AlterField("order", "total", models.BigIntegerField())': "takes what IntegerField did not",
    'migrations.AlterField("order", "total", models.IntegerField(null=True))': "it may be empty by then",
    'migrations.AddConstraint("order", models.CheckConstraint(name="x", condition=models.Q()))': (
        "AddConstraint order: the release before may write what it refuses"
    ),
    'migrations.RemoveConstraint("order", "x")': "RemoveConstraint order.x: what it refused may be there",
    "migrations.RunPython(forwards)": "RunPython: it cannot be undone",
    "migrations.RunPython(forwards, migrations.RunPython.noop)": "RunPython: it cannot be undone",
    'migrations.RunSQL("UPDATE shop_order SET total = 0")': "RunSQL: it cannot be undone",
}
ONE_WAY = {
    'migrations.RemoveField("order", "note")': "RemoveField order.note",
    'migrations.RemoveField(model_name="Order", name="note")': "RemoveField order.note",
    'migrations.DeleteModel("Order")': "DeleteModel order",
    'migrations.RenameField("order", "note", "remark")': "RenameField order.note",
    'migrations.RenameModel("Order", "Purchase")': "RenameModel order",
    'migrations.AlterModelTable("order", "purchases")': "the release before looks for the old table",
    'migrations.AddField("order", "paid", models.BooleanField(default=False))': "order.paid: the release",
    'migrations.AlterField("order", "note", models.CharField(max_length=10))': "max_length shrinks",
    'migrations.AlterField("order", "note", models.IntegerField())': "CharField becomes IntegerField",
    'migrations.AlterField("order", "total", models.IntegerField(db_column="sum"))': "db_column changes",
    'migrations.RunSQL("ALTER TABLE shop_order DROP COLUMN note", "SELECT 1")': (
        "RunSQL: ALTER TABLE shop_order DROP COLUMN note"
    ),
    'migrations.SeparateDatabaseAndState([migrations.RemoveField("order", "note")], [])': "RemoveField order",
}
UNKNOWN = {
    "Custom()": "Custom is no operation that is known here",
    "*more": "*more is not written out as an operation",
    "migrations.RunSQL(open(PATH).read())": "RunSQL: its SQL is not written out",
    'migrations.AddField("order", "paid", field())': None,
    'migrations.AlterField("order", "gone", models.TextField())': "what it was before is not written out",
}


@pytest.mark.parametrize("operation", REVERSIBLE)
def test_what_adds_and_can_be_undone_is_reversible(operation):
    assert read(operation) == Step("shop", "0002_more", "reversible")


@pytest.mark.parametrize(("operation", "why"), FORWARD_COMPATIBLE.items())
def test_what_the_release_before_can_live_with_is_forward_compatible(operation, why):
    step = read(operation)
    assert step.level == "forward_compatible"
    assert why in step.operation


@pytest.mark.parametrize(("operation", "why"), ONE_WAY.items())
def test_what_takes_from_the_release_before_is_one_way(operation, why):
    step = read(operation)
    assert step.level == "one_way"
    assert why in step.operation


@pytest.mark.parametrize(("operation", "why"), UNKNOWN.items())
def test_what_the_source_does_not_tell_is_not_open(operation, why):
    step = read(operation)
    assert step.level in {"unknown", "one_way"}
    assert why is None or (step.level == "unknown" and why in step.operation)


def test_what_an_array_holds_is_compared_too():
    field = "ArrayField(base_field=models.CharField(max_length={}, choices={}), default=list)"
    first = MODEL.format(f'("tags", {field.format(10, "[1]")})')
    for length, level in ((10, "reversible"), (20, "forward_compatible"), (5, "one_way")):
        changed = f'migrations.AlterField("order", "tags", {field.format(length, "[1, 2]")})'
        assert read(changed, first=(first,)).level == level


def test_the_worst_of_several_wins_and_one_way_beats_unknown():
    step = read("migrations.RunPython(f)", "Custom()", 'migrations.DeleteModel("Order")', 'X("order")')
    assert (step.level, step.operation) == ("one_way", "DeleteModel order")
    assert read("migrations.RunPython(f)", "Custom()").level == "unknown"


def test_fields_are_followed_through_renames_and_former_changes():
    steps = read_steps(
        {
            ("shop", "0001_initial"): source(ORDER),
            ("shop", "0002_a"): source(
                'migrations.AlterField("order", "note", models.CharField(max_length=200))'
            ),
            ("shop", "0003_b"): source(
                'migrations.RenameField("order", "note", "remark")',
                'migrations.RenameModel("Order", "Purchase")',
            ),
            ("shop", "0004_c"): source(
                'migrations.AlterField("purchase", "remark", models.CharField(max_length=150))'
            ),
        }
    )
    assert [step.level for step in steps] == ["reversible", "forward_compatible", "one_way", "one_way"]
    assert (
        steps[3].operation == "AlterField purchase.remark: max_length shrinks: the release before may write "
        "what is refused"
    )


def test_a_squashed_migration_does_not_change_what_its_own_say():
    narrow = 'migrations.AlterField("order", "note", models.CharField(max_length=10))'
    final = MODEL.format('("note", models.CharField(max_length=10))')
    steps = read_steps(
        {
            ("shop", "0001_initial"): source(ORDER),
            ("shop", "0001_squashed_0002"): source(
                final, inside='replaces = [("shop", "0001_initial"), ("shop", "0002_more")]'
            ),
            ("shop", "0002_more"): source(narrow),
        }
    )
    assert [step.level for step in steps] == ["reversible", "reversible", "one_way"]
    assert steps[1].replaces == ("shop.0001_initial", "shop.0002_more")


def test_the_author_has_the_last_word():
    step = read("migrations.RunPython(f)", head='way_back = "one_way"')
    assert (step.level, step.operation) == ("one_way", "its author says so")
    step = read('migrations.RemoveField("order", "note")', head='way_back = "reversible"')
    assert (step.level, step.operation) == ("reversible", "")
    step = read("migrations.RunPython(f)", head='way_back = "sideways"')
    assert step.level == "unknown"
    assert "its way_back is not one of reversible, forward_compatible" in step.operation


def test_a_contract_migration_is_one_way():
    step = read("migrations.RunPython(f, g)", head="contract = True")
    assert (step.level, step.contract) == ("one_way", True)
    assert step.operation == "its author calls it a contract migration"
    assert read('migrations.DeleteModel("Order")', head="contract = True").operation == "DeleteModel order"


def test_sql_by_the_name_of_a_constant_is_read():
    step = read("migrations.RunSQL(SQL)", head='SQL = "DROP TABLE shop_order"')
    assert (step.level, step.operation) == ("one_way", "RunSQL: DROP TABLE")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"operations = [", "its source cannot be read"),
        (b"\x00", "its source cannot be read"),
        (b"(" * 5000, "its source cannot be read"),
        (b"x = 1\n" * LIMIT, "its source cannot be read"),
        (b"", "its source has no class Migration"),
    ],
)
def test_what_is_no_migration_is_unknown(text, why):
    (step,) = read_steps({("shop", "0001_initial"): text})
    assert step.level == "unknown"
    assert why in step.operation


def test_nothing_of_a_source_is_run(tmp_path):
    trap = tmp_path / "run"
    read("migrations.RunPython(f)", head=f'open({str(trap)!r}, "w")')
    assert not trap.exists()


@pytest.mark.parametrize(
    ("sql", "taken"),
    [
        ("DROP TABLE shop_order", "DROP TABLE"),
        ("alter table shop_order\n  drop note", "alter table shop_order drop note"),
        ("ALTER TABLE shop_order RENAME TO purchases", "RENAME TO"),
        ("ALTER TABLE t RENAME COLUMN a TO b", "RENAME COLUMN"),
        ("ALTER TABLE t ALTER COLUMN a SET NOT NULL", "SET NOT NULL"),
        ("ALTER TABLE t ALTER COLUMN a TYPE bigint", "ALTER COLUMN a TYPE"),
        ("ALTER TABLE t ADD COLUMN a integer NOT NULL", "ADD COLUMN a integer NOT NULL"),
        ("DELETE FROM shop_order", "DELETE FROM"),
        ("TRUNCATE shop_order", "TRUNCATE"),
        ("ALTER TABLE t ADD COLUMN a integer NOT NULL DEFAULT 0", ""),
        ("ALTER TABLE t ADD COLUMN a integer DEFAULT 0 NOT NULL", ""),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID", ""),
        ("ALTER TABLE t DROP CONSTRAINT c", ""),
        ("ALTER TABLE t ALTER COLUMN a DROP NOT NULL", ""),
        ("CREATE TRIGGER x BEFORE UPDATE OR DELETE ON t EXECUTE FUNCTION f()", ""),
        ("CREATE TRIGGER x BEFORE TRUNCATE ON t EXECUTE FUNCTION f()", ""),
        ("CREATE INDEX i ON t (a); -- DROP TABLE t", ""),
        ("UPDATE t SET a = 1", ""),
    ],
)
def test_sql_that_takes_away_is_seen(sql, taken):
    assert takes_away(sql) == taken
