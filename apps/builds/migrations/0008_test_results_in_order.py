import django.db.models.deletion
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """An index by report and id takes the place of the one by report."""

    atomic = False

    dependencies = [
        ("builds", "0007_asserted_reports"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="testresult",
            index=models.Index(fields=["report", "id"], name="test_result_in_order"),
        ),
        migrations.AlterField(
            model_name="testresult",
            name="report",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="results",
                to="builds.report",
            ),
        ),
    ]
