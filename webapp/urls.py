from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from webapp.api import v1, worker
from webapp.live import urls as live
from webapp.pages import urls as pages

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/worker/", include((worker.urlpatterns, "worker"))),
    path("api/v1/", include((v1.urlpatterns, "v1"))),
    path("", include(live.urlpatterns)),
    path("", include(pages.urlpatterns)),
]

handler400 = "webapp.pages.errors.bad_request"
handler403 = "webapp.pages.errors.forbidden"
handler404 = "webapp.pages.errors.not_found"
handler500 = "webapp.pages.errors.broken"
