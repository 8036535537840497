from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("gates", "0002_policy_immutable_once_used")]

    operations = [
        migrations.AddField(
            model_name="policy",
            name="rollback",
            field=models.JSONField(
                blank=True,
                help_text="The rules for bringing an older release back; empty until that is asked for.",
                null=True,
            ),
        ),
    ]
