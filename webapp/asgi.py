"""The ASGI application: HTTP to Django, through ``Door``; sockets from our own pages to the consumers."""

from __future__ import annotations

import os
import warnings

from django.core.asgi import get_asgi_application

from webapp.house import logs

# WhiteNoise serves our few small static files by plain iterators, which Django reads whole: what we want of them.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators", Warning)
logs.write_as_we_do("uvicorn", "uvicorn.access")  # set up by now; `up` runs it without the second
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
django_application = get_asgi_application()

# Imported after Django is set up: consumers and models need the app registry.
from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from webapp.house.door import Door  # noqa: E402
from webapp.live.origins import OwnOrigin  # noqa: E402
from webapp.live.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": Door(django_application),
        "websocket": OwnOrigin(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
