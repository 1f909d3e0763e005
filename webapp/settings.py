"""One settings file; everything that differs between machines is an environment variable (README's table)."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from celery.schedules import schedule

from webapp.house import client_address

WEBAPP = Path(__file__).resolve().parent
BASE_DIR = WEBAPP.parent
HOME = Path(os.environ.get("COUNTERSIGN_HOME", BASE_DIR / ".countersign")).resolve()


def _flag(name: str, default: bool = False) -> bool:
    value = os.environ.get(name, "").strip().lower()
    if value not in ("", "0", "1", "true", "false", "yes", "no"):
        raise ValueError(f"{name}: must be 1 or 0, not {value!r}")
    return value in ("1", "true", "yes") if value else default


def _whole(name: str, default: int) -> int:
    value = os.environ.get(name, "").strip()
    if value and not re.fullmatch("[0-9]{1,9}", value):
        raise ValueError(f"{name}: must be a whole number, not {value!r}")
    return int(value) if value else default


def _beginnings(name: str) -> tuple[str, ...]:
    """Beginnings of addresses, each with its whole host: https://git.example would also begin git.example.evil."""
    values = tuple(os.environ.get(name, "").replace(",", " ").split())
    for value in values:
        if not re.fullmatch(r"(https?|ssh)://[^/\s]+/\S*", value):
            raise ValueError(f"{name}: must be like https://git.example/ or ssh://git@git.example/team/, not {value!r}")
    return values


def _public_url(default: str) -> str:
    """``scheme://host``, with the port unless it is the scheme's default, as browsers write an origin."""
    value = os.environ.get("COUNTERSIGN_URL", "").strip() or default
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(f"COUNTERSIGN_URL: must be http:// or https:// with a host and no path, not {value!r}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    own = {"http": 80, "https": 443}[parts.scheme]
    try:
        port = parts.port
    except ValueError as error:
        variable = "COUNTERSIGN_URL" if os.environ.get("COUNTERSIGN_URL") else "COUNTERSIGN_PORT"
        given = parts.netloc.rpartition(":")[2]
        raise ValueError(f"{variable}={given}: not a port. Choose one up to 65535.") from error
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, own) else "")


def _proxies(public_url: str) -> list[str]:
    """Proxies whose X-Forwarded-For and -Proto are believed.

    By default those of this machine for https://, else none.
    """
    try:
        by_itself = "127.0.0.1,::1" if public_url.startswith("https:") else ""
        return client_address.proxies(os.environ.get("COUNTERSIGN_PROXIES", by_itself))
    except ValueError as error:
        raise ValueError(f"COUNTERSIGN_PROXIES: {error}") from error


def _dollars(name: str, default: str) -> Decimal:
    value = os.environ.get(name, "").strip() or default
    try:
        dollars = Decimal(value)
    except InvalidOperation:
        dollars = Decimal("NaN")
    if not dollars.is_finite() or dollars < 0:
        raise ValueError(f"{name}: must be a number of US dollars, not {value!r}")
    return dollars


def _kept_key(variable: str, name: str) -> str:
    """A key from the environment, else one made once and kept in the home folder, readable by its owner only."""
    if key := os.environ.get(variable):
        return key
    path = HOME / name
    HOME.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        # Linked, whole: an earlier start, or a sibling process just now, may have made it; none may read half of it.
        made = path.with_name(f".{name}.{os.getpid()}")
        with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
        with suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
    if not (kept := path.read_text().strip()):
        raise ValueError(f"{path}: is empty; bring it back from a backup, or set {variable}")
    return kept


def _database(url: str) -> dict[str, Any]:
    """``postgresql://user:password@host:port/name``, or nothing for SQLite in the home folder."""
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": HOME / "db.sqlite3",
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
            },
        }
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ValueError(f"COUNTERSIGN_DATABASE_URL: scheme must be postgresql, not {parts.scheme!r}")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 0,
        "OPTIONS": {"pool": {"min_size": 1, "max_size": 10, "timeout": 10}},
    }


PORT = _whole("COUNTERSIGN_PORT", 8321)
BIND = os.environ.get("COUNTERSIGN_BIND", "127.0.0.1")
PUBLIC_URL = _public_url(f"http://127.0.0.1:{PORT}")
PROXIES = _proxies(PUBLIC_URL)
REDIS_URL = os.environ.get("COUNTERSIGN_REDIS_URL", "")
SECRET_KEY = _kept_key("COUNTERSIGN_SECRET_KEY", "secret_key")
AUDIT_KEY = _kept_key("COUNTERSIGN_AUDIT_KEY", "audit_key")
AUDIT_HEAD = HOME / "audit_head"
DEBUG = _flag("COUNTERSIGN_DEBUG")
ALLOWED_HOSTS = [
    *filter(None, os.environ.get("COUNTERSIGN_HOSTS", "").split(",")),
    urlsplit(PUBLIC_URL).hostname or "127.0.0.1",
    "127.0.0.1",
    "localhost",
    "[::1]",
]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
CSRF_FAILURE_VIEW = "webapp.pages.errors.csrf_refused"
ANTHROPIC_CONFIGURED = bool(os.environ.get("ANTHROPIC_API_KEY", "").strip())
ANTHROPIC_MODEL = os.environ.get("COUNTERSIGN_MODEL", "")
ANTHROPIC_FALLBACK_MODEL = os.environ.get("COUNTERSIGN_FALLBACK_MODEL", "")  # asked when the first one declines
CLAUDE_USD_PER_CALL = _dollars("COUNTERSIGN_CLAUDE_USD_PER_CALL", "2")
CLAUDE_USD_PER_DAY = _dollars("COUNTERSIGN_CLAUDE_USD_PER_DAY", "25")
WEBHOOKS_ALLOW_LOOPBACK = _flag("COUNTERSIGN_WEBHOOKS_ALLOW_LOOPBACK")
ALLOW_UNSANDBOXED = _flag("COUNTERSIGN_ALLOW_UNSANDBOXED")
DATASETS = Path(os.environ.get("COUNTERSIGN_DATASETS", HOME / "datasets"))
REPOSITORIES = HOME / "repositories"
RECIPE_MB = _whole("COUNTERSIGN_RECIPE_MB", 200)
RECIPE_URLS = _beginnings("COUNTERSIGN_RECIPE_URLS")
RECIPES = BASE_DIR / "gpu_runner" / "recipes"
LOCK_FILE = BASE_DIR / "constraints.txt"

INSTALLED_APPS = [
    "webapp.apps.WebappConfig",
    "webapp.notify.apps.NotifyConfig",
    "research.apps.ResearchConfig",
    "channels",
    "webapp.apps.PanelConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "csp",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",  # pads at random against BREACH
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "webapp.urls"
ASGI_APPLICATION = "webapp.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # A page's own stand beside it, in pages/<page>/templates/<page>/; what many share, in webapp/templates/.
        "DIRS": [*sorted(WEBAPP.glob("pages/*/templates")), WEBAPP / "drawing" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "webapp.pages.context.chrome",
            ]
        },
    }
]

DATABASES = {"default": _database(os.environ.get("COUNTERSIGN_DATABASE_URL", ""))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS: dict[str, Any] = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "countersign"},
    }
    if REDIS_URL
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}

CELERY_BROKER_URL = (
    os.environ.get("COUNTERSIGN_BROKER_URL")
    or REDIS_URL.replace("unix://", "redis+socket://", 1)
    or "memory://localhost/"
)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "control"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 10
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 5, "socket_timeout": 30, "visibility_timeout": 3600}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "reconcile": {"task": "control.reconcile", "schedule": schedule(5.0), "options": {"expires": 5}},
    "deliver": {"task": "notify.pump", "schedule": schedule(5.0), "options": {"expires": 5}},
}

AUTHENTICATION_BACKENDS = ["webapp.pages.accounts.turnstile.Turnstile", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SESSION_COOKIE_AGE = 14 * 24 * 3600
SESSION_COOKIE_NAME = "countersign_session"
CSRF_COOKIE_NAME = "countersign_csrf"
DEVICE_COOKIE_NAME = "countersign_device"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_URL.startswith("https:")
SECURE_HSTS_SECONDS = 31_536_000 if SESSION_COOKIE_SECURE else 0
if SESSION_COOKIE_SECURE:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "style-src-attr": ["'unsafe-inline'"],  # charts pass sizes as custom properties
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "object-src": ["'none'"],
    }
}

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = HOME / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_MANIFEST_STRICT = True

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 2**20

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "webapp.house.logs.Line"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("COUNTERSIGN_LOG_LEVEL", "INFO").upper()},
    "loggers": {
        "httpx": {"level": "WARNING"},
        "httpx2": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        # Two lines for every doorbell, every five seconds: the Event table says what was done.
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
    },
}
