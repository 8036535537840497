import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("promotions", "0005_overrides")]

    operations = [
        migrations.AddField(
            model_name="promotion",
            name="rollback",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Whether it brings an older release back, by the policy's rules for that.",
            ),
        ),
        migrations.AddField(
            model_name="promotion",
            name="comment",
            field=models.TextField(blank=True, db_default="", default="", help_text="Why it was asked for."),
        ),
        migrations.AddField(
            model_name="promotion",
            name="not_applied",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=300),
                blank=True,
                db_default=[],
                default=list,
                help_text="Contract migrations of which the requester says that they have not been applied.",
                size=None,
            ),
        ),
    ]
