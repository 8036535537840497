import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("builds", "0002_positions_and_outcomes")]

    operations = [
        migrations.AddField(
            model_name="report",
            name="lines_covered",
            field=models.PositiveBigIntegerField(help_text="Lines that a test ran.", null=True),
        ),
        migrations.AddField(
            model_name="report",
            name="lines_total",
            field=models.PositiveBigIntegerField(help_text="Lines that a test could run.", null=True),
        ),
        migrations.AddField(
            model_name="report",
            name="branches_covered",
            field=models.PositiveBigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name="report",
            name="branches_total",
            field=models.PositiveBigIntegerField(help_text="Unknown where it does not tell.", null=True),
        ),
        migrations.CreateModel(
            name="CoveredFiles",
            fields=[
                (
                    "report",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="covered_files",
                        serialize=False,
                        to="builds.report",
                    ),
                ),
                (
                    "packed",
                    models.BinaryField(help_text="apps.builds.coverage packs and unpacks it."),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="report",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("branches_covered__lte", models.F("branches_total")),
                    ("lines_covered__lte", models.F("lines_total")),
                ),
                name="report_covers_no_more_than_there_is",
            ),
        ),
    ]
