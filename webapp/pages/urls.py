"""Addresses of the pages that people open."""

from __future__ import annotations

from django.urls import path

from webapp.pages import home
from webapp.pages.accounts import login
from webapp.pages.campaigns import begin, campaigns, check, settings
from webapp.pages.datasets import datasets
from webapp.pages.history import history
from webapp.pages.review import edit, override, review
from webapp.pages.runs import runs

urlpatterns = [
    path("", home.home, name="home"),
    path("navigation/", home.navigation, name="navigation"),
    path("login/", login.SignInView.as_view(), name="login"),
    path("login/<str:token>/", login.login_link, name="login-link"),
    path("logout/", login.SignOutView.as_view(), name="logout"),
    path("review/", review.review, name="review"),
    path("proposals/<int:pk>/", review.proposal, name="proposal"),
    path("proposals/<int:pk>/decision/", review.decide, name="decide"),
    path("proposals/<int:pk>/edit/", edit.edit, name="edit"),
    path("proposals/<int:pk>/override/", override.override, name="override"),
    path("proposals/<int:pk>/again/", override.again, name="check-again"),
    path("proposals/<int:pk>/withdraw/", override.withdraw, name="withdraw"),
    path("runs/", runs.runs, name="runs"),
    path("runs/<int:pk>/", runs.run, name="run"),
    path("runs/<int:pk>/stop/", runs.stop, name="stop-run"),
    path("runs/<int:pk>/score/", runs.score, name="run-score"),
    path("datasets/", datasets.datasets, name="datasets"),
    path("datasets/<path:name>/", datasets.dataset, name="dataset"),  # a campaign may name one as it likes
    path("campaigns/", campaigns.campaigns, name="campaigns"),
    path("campaigns/new/", begin.new, name="campaign-new"),
    path("campaigns/new/costs/", begin.costs, name="campaign-new-costs"),
    path("campaigns/<slug:slug>/", campaigns.campaign, name="campaign"),
    path("campaigns/<slug:slug>/settings/", settings.settings, name="campaign-settings"),
    path("campaigns/<slug:slug>/settings/costs/", settings.costs, name="campaign-settings-costs"),
    path("campaigns/<slug:slug>/program/", settings.program, name="campaign-program"),
    path("campaigns/<slug:slug>/clone/", settings.clone, name="campaign-clone"),
    path("campaigns/<slug:slug>/check/", check.check, name="campaign-check"),
    path("campaigns/<slug:slug>/propose/", campaigns.propose, name="campaign-propose"),
    path("campaigns/<slug:slug>/state/", campaigns.state, name="campaign-state"),
    path("campaigns/<slug:slug>/history/", history.history, name="history"),
    path("campaigns/<slug:slug>/history/read/", history.read, name="history-read"),
    path("campaigns/<slug:slug>/history/import/", history.bring, name="history-import"),
    path("campaigns/<slug:slug>/history/<int:number>/", history.experiment, name="history-experiment"),
    path("campaigns/<slug:slug>/history/imports/<int:pk>/archive/", history.archive, name="history-archive"),
    path("campaigns/<slug:slug>/notes/", campaigns.add_note, name="campaign-notes"),
    path("campaigns/<slug:slug>/notes/<int:pk>/retire/", campaigns.retire_note, name="campaign-note-retire"),
]
