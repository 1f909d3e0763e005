"""Check before you start: what a campaign needs to run, one line each, green or with its way out.

Most lines read the record; two wait for a smoke run of the incumbent itself, which ``try_out`` queues: a few steps in
the sandbox of a worker, and the scorer on what came of them. It may run while the campaign is *planned* or *paused*.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from django.db import transaction

from gpu_runner import contract
from research.begin import datasets, forecast
from research.gates import smoke
from research.lifecycle import RUN_LIVE, LostRace
from research.models import Campaign, Run, Worker
from research.record import approval, learn, ledger, moves, repository, rights, self_reported
from research.record.rights import Actor
from research.runs import dispatch

MEMORY_SHARE = 0.9  # of a machine's, at most: allocators and other processes need the rest
SCORED = ("ok", "self_reported")
Light = Literal["green", "red", "amber", "running", "waiting"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line. ``todo`` is its way out, empty where none is needed; ``run`` the run that it is about."""

    name: str
    light: Light
    found: str
    todo: str = ""
    run: int | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def lines(campaign: Campaign) -> list[Line]:
    """Every line, in the order in which one would mend them."""
    workers = [w for w in datasets.fitting(campaign).order_by("name") if datasets.has_packages(campaign, w)]
    tried = last_try(campaign)
    return [
        _recipe(campaign),
        _workers(campaign, workers),
        _dataset(campaign, workers),
        _trains(tried),
        _scored(tried),
        _memory(tried, workers),
        _deadline(campaign),
        _noise(campaign),
        _budget(campaign),
    ]


def is_green(found: Iterable[Line]) -> bool:
    """Whether nothing speaks against a start: what is planned or merely noteworthy does not."""
    return all(line.light in ("green", "amber") for line in found)


# --- the smoke run of the incumbent ---------------------------------------------------------------


def last_try(campaign: Campaign) -> Run | None:
    """The newest smoke run of the incumbent itself under today's conditions."""
    digest = approval.of_incumbent(campaign.incumbent).digest()
    tried = campaign.runs.filter(purpose="smoke", revision=None, digest=digest, incumbent=campaign.incumbent)
    return tried.select_related("score").order_by("-pk").first()


def try_out(campaign: Campaign, *, by: Actor) -> Run:
    """Queue a smoke run of the incumbent before all other work, unless one is on its way.

    Raises PermissionDenied, or LostRace where the campaign takes no runs.
    """
    rights.check(by, rights.try_out, campaign)
    if campaign.state not in moves.TRIES_IN:
        raise LostRace(f"{campaign.name} is {campaign.state}, and nothing of it runs; pause it first, then check it")
    with transaction.atomic():
        moves.hold(campaign)  # of two who ask at once the second sees the first one's
        tried = last_try(campaign)
        if tried is not None and tried.state in {"queued", "lost", *RUN_LIVE}:
            return tried
        signed = approval.of_incumbent(campaign.incumbent)
        return dispatch.queue(campaign.incumbent, purpose="smoke", pair=1, signed=signed, anew=True)


# --- the lines -----------------------------------------------------------------------------------


def _recipe(campaign: Campaign) -> Line:
    try:
        recipe = contract.parse_recipe(repository.files_at(campaign, campaign.incumbent.commit)["recipe.toml"])
    except (ValueError, KeyError, StopIteration) as error:
        return Line(name="Recipe", light="red", found=str(error)[:300], todo="Mend recipe.toml and begin anew with it.")
    what = f"{campaign.recipe}: {_count(len(recipe.editable), 'editable file')}, {_count(len(recipe.knobs), 'knob')}"
    if recipe.command and (problem := recipe.command.problem_with_budget(campaign.run_budget_kind)):
        return Line(name="Recipe", light="red", found=problem, todo="Begin anew with the budget that it names.")
    if recipe.is_self_reported and not campaign.judges_self_reported:
        todo = "Begin anew with self-reported numbers judged, or add a [model] that the scorer can open."
        return Line(
            name="Recipe", light="red", found=f"{what}; its number is its own word, which is not judged", todo=todo
        )
    return Line(name="Recipe", light="green", found=what)


def _count(num: int, noun: str) -> str:
    return f"{num} {noun}{'' if num == 1 else 's'}"


def _workers(campaign: Campaign, workers: list[Worker]) -> Line:
    if workers:
        names = ", ".join(f"{worker.name} ({worker.hardware_class})" for worker in workers[:5])
        return Line(name="Worker", light="green", found=names)
    others = [_misfit(campaign, worker) for worker in datasets.here().order_by("name")[:5]]
    found = "; ".join(others) or "no worker was heard of in the last two minutes"
    todo = (
        f"Start one whose sandbox is {campaign.sandbox_level}: `make run` here, or `manage.py worker NAME` for another."
    )
    return Line(name="Worker", light="red", found=found, todo=todo)


def _misfit(campaign: Campaign, worker: Worker) -> str:
    if worker.sandbox_level != campaign.sandbox_level:
        return f"{worker.name} has the sandbox {worker.sandbox_level}, wanted is {campaign.sandbox_level}"
    if campaign.hardware_class and worker.hardware_class != campaign.hardware_class:
        return f"{worker.name} is {worker.hardware_class}, wanted is {campaign.hardware_class}"
    if not datasets.has_packages(campaign, worker):
        return f"{worker.name} declares no environment with the packages that the recipe trains with"
    return f"{worker.name} is installed from another constraints.txt"


def _dataset(campaign: Campaign, workers: list[Worker]) -> Line:
    name, sha256 = campaign.dataset, campaign.dataset_sha256
    have = [worker.name for worker in workers if worker.datasets.get(name) == sha256]
    if have:
        return Line(name="Dataset", light="green", found=f"{name} {sha256[:12]} is on {', '.join(have[:5])}")
    other = [f"{worker.name} has {worker.datasets[name][:12]}" for worker in workers if name in worker.datasets]
    found = f"no such worker has {name} {sha256[:12]}" + (f"; {', '.join(other[:5])}" if other else "")
    todo = (
        f"Prepare it there (`python -m gpu_runner data prepare --name {name}`) or copy the folder, and start the worker"
        " again: it says what it has when it starts."
    )
    return Line(name="Dataset", light="red" if workers else "waiting", found=found, todo=todo)


def _trains(tried: Run | None) -> Line:
    name = "Trains in the sandbox"
    if tried is None:
        return Line(name=name, light="waiting", found="not tried yet", todo="Try it: a few steps on a worker.")
    if tried.state in ("queued", "lost"):
        return Line(name=name, light="running", found="waits for a worker", run=tried.pk)
    if tried.state in RUN_LIVE:
        return Line(name=name, light="running", found=f"is {tried.state}", run=tried.pk)
    if tried.state != "finished":
        found = _short(smoke.found(tried).sentence)
        return Line(name=name, light="red", found=found, todo="Mend that, then try it again.", run=tried.pk)
    steps = _count(tried.num_steps or 0, "step")
    pace = f", {tried.num_steps / tried.train_s:.1f} steps/s" if tried.num_steps and tried.train_s else ""
    return Line(name=name, light="green", found=f"{steps}{pace} on {tried.hardware_class}", run=tried.pk)


def _short(sentence: str) -> str:
    """The first and the last line of what may hold a whole traceback, which the run's page shows."""
    lines = [line.strip() for line in sentence.splitlines() if line.strip()]
    return " … ".join([lines[0], lines[-1]])[:600] if len(lines) > 1 else sentence[:600]


def _scored(tried: Run | None) -> Line:
    name = "Model is scored"
    if tried is None or tried.state != "finished":
        return Line(name=name, light="waiting", found="after the few steps")
    score = getattr(tried, "score", None)
    if score is None or score.outcome not in SCORED:
        why = "; ".join(score.reasons)[:300] if score else "there is no score"
        todo = "The scorer has to open the checkpoint: see its sentence, mend the recipe, try it again."
        return Line(name=name, light="red", found=why or "it could not be scored", todo=todo, run=tried.pk)
    if score.val_bpb is None:
        return _self_reported(name, tried, score.self_reported or {})
    return Line(name=name, light="green", found=f"{score.val_bpb:.4f} bpb after the few steps", run=tried.pk)


def _self_reported(name: str, tried: Run, said: dict[str, Any]) -> Line:
    if said.get("value") is None:
        found = f"the trainer did not say its {said.get('metric', 'metric')} within the few steps"
        todo = "Let run in [command] of recipe.toml name {steps}; else the first whole run shows whether it ever does."
        return Line(name=name, light="amber", found=found, todo=todo, run=tried.pk)
    found = f"self-reported by the trainer, not measured: {said['metric']} {said['value']:g}"
    return Line(name=name, light="amber", found=found, run=tried.pk)


def _memory(tried: Run | None, workers: list[Worker]) -> Line:
    name = "Memory fits"
    if tried is None or tried.peak_memory_mib is None:
        over = tried is not None and tried.state == "finished"
        found = "the run did not say what it took" if over else "after the few steps"
        return Line(name=name, light="amber" if over else "waiting", found=found)
    sizes = [size for worker in workers if (size := _memory_of(worker)) is not None]
    took = f"{tried.peak_memory_mib:,.0f} MiB"
    if not sizes:
        return Line(name=name, light="amber", found=f"{took}; no worker says how much it has", run=tried.pk)
    if tried.peak_memory_mib > MEMORY_SHARE * min(sizes):
        todo = "Make the batch or the model smaller, or switch off the worker with the least memory."
        return Line(name=name, light="red", found=f"{took} of {min(sizes):,.0f} MiB", todo=todo, run=tried.pk)
    return Line(name=name, light="green", found=f"{took} of {min(sizes):,.0f} MiB", run=tried.pk)


def _memory_of(worker: Worker) -> float | None:
    on_a_gpu = not worker.hardware_class.startswith("cpu")
    size = worker.hardware.get("gpu_memory_mib" if on_a_gpu else "memory_mib")
    return float(size) if isinstance(size, int | float) and size > 0 else None


def _deadline(campaign: Campaign) -> Line:
    run = forecast.run_duration(campaign)
    if run.seconds is None:
        return Line(name="Run fits its deadline", light="waiting", found=run.how)
    said = forecast.sentences(campaign)["deadline_s"]
    if run.seconds <= campaign.deadline_s:
        return Line(name="Run fits its deadline", light="green", found=said)
    if run.is_rough:
        todo = "First steps are slower than later ones; if its first whole run is ended, raise the deadline."
        return Line(name="Run fits its deadline", light="amber", found=said, todo=todo)
    return Line(name="Run fits its deadline", light="red", found=said, todo="Raise the deadline in the settings.")


def _noise(campaign: Campaign) -> Line:
    sd = _noise_sd(campaign)
    if sd is None and campaign.cloned_from is not None:
        sd = _noise_sd(campaign.cloned_from)
    if not sd:
        found = f"planned: the first verdicts measure it, from {_count(campaign.min_pairs, 'pair')} each"
        return Line(name="Noise of a pair", light="green", found=found)
    found = (
        f"sd {sd:.4f}; the smallest effect, {campaign.min_effect_bpb:g}, is {campaign.min_effect_bpb / sd:.1f} of it"
    )
    if campaign.min_effect_bpb >= sd / campaign.max_pairs**0.5:
        return Line(name="Noise of a pair", light="green", found=found)
    todo = f"{_count(campaign.max_pairs, 'pair')} will rarely show so small an effect: allow more, or raise it."
    return Line(name="Noise of a pair", light="amber", found=found, todo=todo)


def _noise_sd(campaign: Campaign) -> float | None:
    """In the unit of the campaign's metric; None below two degrees of freedom."""
    if not campaign.is_self_reported:
        return learn.noise(campaign).sd_bpb
    sum_of_squares, degrees_of_freedom = self_reported.noise(campaign)
    return math.sqrt(sum_of_squares / degrees_of_freedom) if degrees_of_freedom > 1 else None


def _budget(campaign: Campaign) -> Line:
    said, run = forecast.sentences(campaign), forecast.run_duration(campaign)
    if why := ledger.exhausted(campaign):
        return Line(name="Budget", light="red", found=why, todo="Raise it in the settings.")
    found = said.get("budget_gpu_hours", run.how)
    hours = campaign.budget_gpu_hours
    if (
        hours is not None
        and run.seconds is not None
        and not forecast.of_hours(campaign, hours, run.seconds).most_verdicts
    ):
        return Line(name="Budget", light="red", found=found, todo="Raise the GPU-hours, or make a run shorter.")
    return Line(name="Budget", light="green" if run.seconds is not None else "waiting", found=found)
