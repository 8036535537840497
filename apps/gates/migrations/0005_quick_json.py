from django.db import migrations, models

import apps.as_json


class Migration(migrations.Migration):
    dependencies = [
        ("gates", "0004_decisions_by_lz4"),
    ]

    operations = [
        migrations.AlterField(
            model_name="decision",
            name="facts",
            field=models.JSONField(decoder=apps.as_json.QuickDecoder, encoder=apps.as_json.QuickEncoder),
        ),
        migrations.AlterField(
            model_name="decision",
            name="findings",
            field=models.JSONField(decoder=apps.as_json.QuickDecoder, encoder=apps.as_json.QuickEncoder),
        ),
    ]
