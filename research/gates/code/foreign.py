"""Rules on foreign code: of a trainer that knows nothing of the harness (recipe.toml: kind = "command").

Such code imports what it likes, reads its data, writes its checkpoints, and prints. So the allow-lists of the harness
say nothing about it. What is left is what no training needs anew: a network, other processes, code that is made up
while it runs, text that nobody can read. As everywhere, what the file before the edit had already is not new.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from research.gates.code import wording
from research.gates.code.source import Sighting, Source

# Module or dotted name, with all below it -> what it does. The longest that fits decides.
BLOCKED = {
    **dict.fromkeys(
        "socket ssl urllib http ftplib smtplib poplib imaplib telnetlib xmlrpc socketserver requests httpx aiohttp "
        "urllib3 websocket websockets paramiko boto3 botocore google.cloud azure grpc zmq huggingface_hub wandb.init "
        "torch.hub datasets.load_dataset transformers.AutoModel.from_pretrained".split(),
        ("network", "opens the network, which no run has"),
    ),
    **dict.fromkeys(
        "subprocess pty ctypes cffi os.system os.popen os.fork os.forkpty os.kill os.killpg os.setsid os.posix_spawn "
        "os.execv os.execve os.execvp os.execvpe os.execl os.execle os.execlp os.spawnl os.spawnv signal.pthread_kill "
        "posix resource.setrlimit torch.utils.cpp_extension".split(),
        ("process", "starts or steers other processes, or machine code"),
    ),
    **dict.fromkeys(
        "eval exec compile __import__ importlib runpy code codeop marshal dill cloudpickle types.CodeType "
        "types.FunctionType sys.settrace sys.setprofile sys.addaudithook gc inspect.currentframe sys._getframe".split(),
        ("made-up-code", "makes code while it runs, or reaches into what runs"),
    ),
}
WARNED = {
    "multiprocessing": ("process", "starts processes; the trainer's own seed and budget have to reach them"),
    "concurrent": ("process", "starts threads or processes"),
    "pickle": ("pickle", "unpickling runs code"),
    "torch.load": ("pickle", "unpickling runs code, without weights_only"),
    "os.environ": ("environment", "what it reads may differ from machine to machine"),
    "os.getenv": ("environment", "what it reads may differ from machine to machine"),
    "sys.exit": ("exit", "a trainer that leaves early may leave its number unsaid"),
    "os._exit": ("exit", "a trainer that leaves early may leave its number unsaid"),
    "shutil.rmtree": ("place", "it removes files"),
    "time.sleep": ("clock", "it waits"),
    "torch.manual_seed": ("seed", "the seed is the run's; pairs of runs share it"),
    "numpy.random.seed": ("seed", "the seed is the run's; pairs of runs share it"),
    "random.seed": ("seed", "the seed is the run's; pairs of runs share it"),
}


def sightings(source: Source) -> Iterator[Sighting]:
    names = dict(_imported(source))
    for node in source.nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _of_import(node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if not isinstance(source.parents.get(node), ast.Attribute):  # else the whole of it is judged
                yield from _of_name(node, names.get(node.id, node.id))
        elif isinstance(node, ast.Attribute) and not isinstance(source.parents.get(node), ast.Attribute):
            yield from _of_name(node, _dotted(node, names))
        elif isinstance(node, ast.Constant):
            yield from _of_text(source, node)
        elif isinstance(node, ast.Call) and _is_made_up(node):
            sentence = "The name that it looks up is made up while it runs; write it out."
            yield Sighting("block", "made-up-code", node, ast.unparse(node)[:200], sentence)
    yield from wording.identifiers(source)


def _is_made_up(node: ast.Call) -> bool:
    """Whether it is getattr, or a lookup in globals(), with a name that is not written out."""
    if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr") and len(node.args) > 1:
        return not isinstance(node.args[1], ast.Constant | ast.Name)
    return False


def _imported(source: Source) -> Iterator[tuple[str, str]]:
    """Name in the file -> dotted name that it stands for, wherever it is imported."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _of_import(node: ast.Import | ast.ImportFrom) -> Iterator[Sighting]:
    if isinstance(node, ast.Import):
        found = [alias.name for alias in node.names]
    else:
        found = [] if node.level else [f"{node.module}.{alias.name}" for alias in node.names]
    for dotted in found:
        yield from _of_name(node, dotted)


def _of_name(node: ast.AST, dotted: str) -> Iterator[Sighting]:
    parts = dotted.split(".")
    for n in range(len(parts), 0, -1):
        name = ".".join(parts[:n])
        for severity, table in (("block", BLOCKED), ("warn", WARNED)):
            if name in table:
                rule, what = table[name]
                yield Sighting(severity, rule, node, name, f"{name}: {what}; leave it out, or do without.")
                return


def _dotted(node: ast.Attribute, names: dict[str, str]) -> str:
    """``np.random.seed`` as ``numpy.random.seed``; of what is no plain name, the attributes after a dot."""
    parts: list[str] = []
    here: ast.expr = node
    while isinstance(here, ast.Attribute):
        parts.append(here.attr)
        here = here.value
    first = names.get(here.id, here.id) if isinstance(here, ast.Name) else ""
    return ".".join([first, *reversed(parts)])


def _of_text(source: Source, node: ast.Constant) -> Iterator[Sighting]:
    if isinstance(node.value, str) and node not in source.docstrings:
        text = node.value
        if len(text) > wording.MAX_TEXT and " " not in text.strip():
            sentence = f"{len(text)} characters without a space may be anything, encoded; write out what it is."
            yield Sighting("block", "blob", node, repr(text)[:200], sentence)
        elif wording.names_a_place(text):
            sentence = "The text names a folder or an address; see that it is the trainer's own."
            yield Sighting("warn", "place", node, repr(text)[:200], sentence)
    elif isinstance(node.value, bytes) and len(node.value) > 16:
        sentence = "Bytes may be anything, encoded; write out what it is."
        yield Sighting("block", "blob", node, repr(node.value)[:200], sentence)
