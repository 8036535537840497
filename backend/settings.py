"""Settings for every deployment: production is the default, other places set other values.

Each value comes from the environment (backend/env.py). Nothing here needs a database or a
secret to load, so commands such as ``manage.py bundle`` run in an empty environment; what a
server cannot do without is checked in backend/checks.py and at first use.
"""

from importlib.util import find_spec
from pathlib import Path

import dj_database_url
import structlog
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static

from backend.env import Env

BASE_DIR = Path(__file__).resolve().parent.parent
env = Env()

DEBUG = env.boolean("DEBUG", default=False)
# Empty where it is not set: Django then refuses at first use, and says so.
SECRET_KEY = env.text("SECRET_KEY")
ALLOWED_HOSTS = env.listing("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = env.listing("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    # First, since its templates take the place of unfold's.
    "backend",
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "apps.access",
    "apps.ledger",
    "apps.catalog",
    "apps.builds",
    "apps.releases",
    "apps.deployments",
    "apps.gates",
    "apps.promotions",
    "apps.rollout",
    "apps.specs",
]
# The embedded AWS is part of a checkout and never of a bundle.
if find_spec("apps.sandbox"):
    INSTALLED_APPS.append("apps.sandbox")

MIDDLEWARE = [
    # Answers load balancers, which know neither ALLOWED_HOSTS nor TLS.
    "apps.rollout.middleware.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "backend.urls"
WSGI_APPLICATION = "backend.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# PostgreSQL only. Without DATABASE_URL the first query is refused; no file is made up.
DATABASES: dict[str, dict] = {"default": {}}
if DATABASE_URL := env.text("DATABASE_URL"):
    try:
        DATABASES["default"] = dict(
            dj_database_url.parse(
                DATABASE_URL,
                conn_max_age=env.integer("CONN_MAX_AGE", default=60),
                conn_health_checks=True,
            )
        )
    except (dj_database_url.ParseError, dj_database_url.UnknownSchemeError, ValueError):
        # The URL holds a password, so it is not repeated here.
        raise ImproperlyConfigured(
            "DATABASE_URL is not of the form postgresql://user:password@host:port/name."
        ) from None
    if DATABASES["default"].get("ENGINE") != "django.db.backends.postgresql":
        raise ImproperlyConfigured(
            "DATABASE_URL must begin with postgresql://: Lockkeeper runs on PostgreSQL only."
        )
    DATABASES["default"].setdefault("OPTIONS", {})
    DATABASES["default"]["OPTIONS"].setdefault("connect_timeout", 3)
    # A network forgets connections that are silent for minutes, such as one that waits for an index build.
    DATABASES["default"]["OPTIONS"].setdefault("keepalives_idle", 30)

# How a migration waits for a lock on a table: how long each time, how often, and how long in all.
MIGRATION_LOCK_TIMEOUT_S = env.integer("MIGRATION_LOCK_TIMEOUT_S", default=5, minimum=1)
MIGRATION_LOCK_TRIES = env.integer("MIGRATION_LOCK_TRIES", default=10, minimum=1)
MIGRATION_LOCK_WITHIN_S = env.integer("MIGRATION_LOCK_WITHIN_S", default=120, minimum=1)

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "access.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False
FORMAT_MODULE_PATH = "backend.formats"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = env.text("STATIC_ROOT", str(BASE_DIR / ".local" / "static"))
# Hashed files of several releases share STATIC_ROOT; the manifest that names them is each release's own.
STATIC_MANIFEST_DIR = env.text("STATIC_MANIFEST_DIR", STATIC_ROOT)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "backend.static.ReleaseStaticFilesStorage"},
}
if env.boolean("STATIC_FROM_SOURCE", default=DEBUG):
    # For a checkout, where nobody ran collectstatic.
    STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    WHITENOISE_USE_FINDERS = True
    STATIC_ROOT = ""

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.access.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.IsAuthenticated",
        "apps.access.permissions.HasScope",
    ],
    "DEFAULT_RENDERER_CLASSES": ["backend.api.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["backend.api.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "backend.api.ContentNegotiation",
    "DEFAULT_PAGINATION_CLASS": "backend.api.CursorPagination",
    "DEFAULT_FILTER_BACKENDS": ["backend.api.FilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "backend.problems.exception_handler",
    "PAGE_SIZE": 50,
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Lockkeeper",
    "DESCRIPTION": "Records builds, decides whether a release may rise, and ships it through CodeDeploy.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    # The tests validate the schema; on a host it would take half a second of every deployment.
    "ENABLE_DJANGO_DEPLOY_CHECK": False,
    # The schema and its documentation are for those who hold a token or are signed in to the admin.
    "SERVE_AUTHENTICATION": [
        "apps.access.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "SERVE_PERMISSIONS": [
        "rest_framework.permissions.IsAuthenticated",
        "apps.access.permissions.HasScope",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "BuildStatus": "apps.builds.models.Build.Status",
        "TestResultStatus": "apps.builds.models.TestResult.Status",
        "DeploymentStatus": "apps.deployments.models.Deployment.Status",
        "PromotionStatus": "apps.promotions.models.Promotion.Status",
        "Verdict": "apps.gates.verdicts.Verdict",
        "ChangeOfTest": "apps.builds.compare.Kind",
        "WindowKind": "apps.promotions.models.Window.Kind",
        "ApprovalVerdict": "apps.promotions.models.Approval.Verdict",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "backend.schema.add_problems",
    ],
}
UNFOLD = {
    "SITE_TITLE": "Lockkeeper",
    "SITE_HEADER": "Lockkeeper",
    "SITE_URL": None,
    "SITE_SYMBOL": "water_lock",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("lockkeeper.svg")},
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SIDEBAR": {"navigation": "backend.navigation.sidebar"},
    "DASHBOARD_CALLBACK": "apps.promotions.overview.overview",
    # The blue of water, in place of unfold's purple (Tailwind's sky).
    "COLORS": {
        "primary": {
            "50": "oklch(97.7% .013 236.62)",
            "100": "oklch(95.1% .026 236.824)",
            "200": "oklch(90.1% .058 230.902)",
            "300": "oklch(82.8% .111 230.318)",
            "400": "oklch(74.6% .16 232.661)",
            "500": "oklch(68.5% .169 237.323)",
            "600": "oklch(58.8% .158 241.966)",
            "700": "oklch(50% .134 242.749)",
            "800": "oklch(44.3% .11 240.79)",
            "900": "oklch(39.1% .09 240.876)",
            "950": "oklch(29.3% .066 243.157)",
        }
    },
}

SECURE_COOKIES = env.boolean("SECURE_COOKIES", default=True)
SESSION_COOKIE_SECURE = SECURE_COOKIES
CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_HTTPONLY = True
SECURE_SSL_REDIRECT = env.boolean("SECURE_SSL_REDIRECT", default=False)
# Health checks come over plain HTTP from the host itself and from the load balancer.
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|version)$"]
SECURE_HSTS_SECONDS = env.integer("SECURE_HSTS_SECONDS", default=0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = bool(SECURE_HSTS_SECONDS)
SECURE_HSTS_PRELOAD = bool(SECURE_HSTS_SECONDS)
if env.boolean("BEHIND_TLS_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
# TLS, its redirect and HSTS belong to the load balancer in the reference deployment (docs/appspec.md).
SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008"]

LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", {"DEBUG", "INFO", "WARNING", "ERROR"})
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "structlog.stdlib.ProcessorFormatter",
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            "foreign_pre_chain": [
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    # botocore tells at INFO where it found its credentials, with every client.
    "loggers": {
        "botocore": {"level": "WARNING"},
        "django.server": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
    },
}
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
