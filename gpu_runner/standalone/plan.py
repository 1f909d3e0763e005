"""Plans a run by hand and checks its whole spec before anything starts: a mistake costs a second, not a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpu_runner import sandbox
from gpu_runner.contract import Knobs, Recipe, parse_recipe
from gpu_runner.contract.closest import closest
from gpu_runner.data.find import find_dataset
from gpu_runner.data.manifest import manifest_sha256
from gpu_runner.machine import hardware
from gpu_runner.standalone.spec import MachineTable, TrainSpec

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
RUNS = Path("runs")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked run: everything that is needed to start it."""

    name: str
    spec: TrainSpec
    recipe: Path
    dataset: Path
    dataset_sha256: str
    folder: Path
    sandbox_level: str
    threads: int | None

    @property
    def dataset_name(self) -> str:
        return self.dataset.name


def make_plan(spec: TrainSpec, path: Path, *, root: Path, out: Path | None) -> Plan:
    """Plan ``spec``, read from ``path``; names in it are looked up beside that file and under ``root``.

    Raises ValueError naming the field, OSError when a dataset cannot be prepared.
    """
    recipe = find_recipe(spec.recipe, path.parent)
    refuse_knobs(recipe, spec.overrides)
    refuse_device(spec.machine)
    dataset = find_dataset(spec.dataset, path.parent, root)
    return Plan(
        name=path.stem,
        spec=spec,
        recipe=recipe,
        dataset=dataset,
        dataset_sha256=manifest_sha256(dataset),
        folder=(out or RUNS / f"{path.stem}-{spec.seed}").absolute(),
        sandbox_level=sandbox_level(spec.machine),
        threads=spec.machine.threads or _fair_share(spec.machine.processes),
    )


def find_recipe(wanted: str, beside: Path) -> Path:
    """The folder of a shipped recipe, or one beside the spec. Raises ValueError."""
    shipped = sorted(path.parent.name for path in RECIPES.glob("*/recipe.toml"))
    folder = RECIPES / wanted if wanted in shipped else beside / wanted
    for name in ("recipe.toml", "train.py"):
        if not (folder / name).is_file():
            ways = f"name a shipped recipe ({', '.join(shipped)}) or a folder with recipe.toml and train.py"
            raise ValueError(f"recipe: {folder} has no {name}; {ways}")
    return folder.resolve()


def refuse_knobs(folder: Path, overrides: Knobs) -> None:
    """Raises ValueError on the first override that recipe.toml does not allow."""
    recipe: Recipe = parse_recipe((folder / "recipe.toml").read_text(encoding="utf-8"))
    if recipe.kind == "command":
        raise ValueError(f"recipe: {recipe.name} is a foreign trainer, which a campaign trains; start it as it is")
    for key in overrides:
        if recipe.knob(key) is None:
            known = closest(key, [knob.key for knob in recipe.knobs])
            raise ValueError(f"overrides.{key}: {recipe.name}'s recipe.toml declares no such knob; {known}")
    if problems := recipe.problems_with(overrides):
        raise ValueError(f"overrides.{problems[0]}; see {folder / 'recipe.toml'}")


def refuse_device(machine: MachineTable) -> None:
    """Raises ValueError when this machine does not have the GPUs that are asked for."""
    num_gpus = len(hardware.gpus()) if hardware.usable_gpu() else 0
    if machine.device == "cuda" and not num_gpus:
        raise ValueError("machine.device: this torch sees no GPU here; use cpu or auto")
    if num_gpus and machine.device != "cpu" and machine.processes > num_gpus:
        raise ValueError(f"machine.processes: {machine.processes} for {num_gpus} GPUs; ask for at most one each")


def sandbox_level(machine: MachineTable) -> str:
    """The sandbox level. ValueError when it does not work here, or not for so many processes."""
    try:
        level = sandbox.probe("auto" if machine.sandbox == "best" else machine.sandbox)
    except ValueError as problem:
        raise ValueError(f"machine.sandbox: {problem}") from problem
    if level == "landlock" and machine.processes > 1:
        raise ValueError(
            "machine.processes: several meet over the loopback interface, and level landlock has no sockets; "
            'install bubblewrap, or say machine.sandbox = "none"'
        )
    return level


def _fair_share(processes: int) -> int | None:
    """Threads for each of several processes, so that together they use no more cores than there are."""
    cores = hardware.facts()["num_cores"]
    return None if processes == 1 else max(1, (cores if isinstance(cores, int) else 1) // processes)
