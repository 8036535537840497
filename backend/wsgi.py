"""The WSGI application that gunicorn serves."""

import gc
import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")
application = get_wsgi_application()

# What is loaded by now stays for good, views included. So the garbage collector need not go through it again
# with each large request, and workers share it with the process that they are forked from.
get_resolver().url_patterns  # noqa: B018 - loads them
gc.collect()
gc.freeze()
