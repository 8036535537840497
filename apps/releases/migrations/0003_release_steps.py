from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("releases", "0002_bundle_look")]

    operations = [
        migrations.AddField(
            model_name="release",
            name="steps",
            field=models.JSONField(
                blank=True,
                help_text="Its migrations and what each leaves of the way back; empty where nobody has read them.",
                null=True,
            ),
        ),
    ]
