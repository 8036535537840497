"""Static files whose manifest belongs to the release while the hashed files are shared."""

from django.conf import settings
from django.core.files.storage import FileSystemStorage
from whitenoise.storage import CompressedManifestStaticFilesStorage


class ReleaseStaticFilesStorage(CompressedManifestStaticFilesStorage):
    """Hashed files in STATIC_ROOT, ``staticfiles.json`` in STATIC_MANIFEST_DIR.

    Two releases that collect into one STATIC_ROOT keep each other's hashed files, but the
    manifest would be overwritten; so each release reads its own.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        manifest = FileSystemStorage(location=settings.STATIC_MANIFEST_DIR)
        super().__init__(*args, manifest_storage=manifest, **kwargs)
