from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from webapp import live_urls, pages
from webapp.api import v1, worker

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/worker/", include((worker.urlpatterns, "worker"))),
    path("api/v1/", include((v1.urlpatterns, "v1"))),
    path("", include(live_urls.urlpatterns)),
    path("", include(pages.urlpatterns)),
]

handler400 = "webapp.views.errors.bad_request"
handler403 = "webapp.views.errors.forbidden"
handler404 = "webapp.views.errors.not_found"
handler500 = "webapp.views.errors.broken"
